// CRC-32 as zlib computes it (polynomial 0x04C11DB7, bits reflected), by carry-less multiplication: Gopal et al., "Fast CRC
// Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009. The constants are x^n mod P, reflected, for the
// distances that 128 bits are moved: 64 bytes ahead (4 * 128 + 32 and - 32 bits), 16 bytes (128 +- 32), then 64 bits to 32.

ZN_INLINE __m128i crc_moved(__m128i x, __m128i by) {
    return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
}

ZN_INLINE __m128i crc_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }

static uint32_t crc32_clmul(uint32_t crc, const uint8_t *p, int64_t n) {
    crc = ~crc;
    if (n >= 64) {
        const __m128i by64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
        const __m128i by8 = _mm_set_epi64x(0, 0x163cd6124), barrett = _mm_set_epi64x(0x1f7011641, 0x1db710641);
        const __m128i low = _mm_setr_epi32(-1, 0, -1, 0);
        __m128i x[4];
        for (int i = 0; i < 4; i++) x[i] = crc_load(p + 16 * i);
        x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)crc));
        for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
            for (int i = 0; i < 4; i++) x[i] = _mm_xor_si128(crc_moved(x[i], by64), crc_load(p + 16 * i));
        }
        __m128i sum = x[0];
        for (int i = 1; i < 4; i++) sum = _mm_xor_si128(crc_moved(sum, by16), x[i]);
        for (; n >= 16; p += 16, n -= 16) sum = _mm_xor_si128(crc_moved(sum, by16), crc_load(p));
        // 128 bits to 64, to 32, and the remainder (Barrett).
        sum = _mm_xor_si128(_mm_srli_si128(sum, 8), _mm_clmulepi64_si128(sum, by16, 0x10));
        sum = _mm_xor_si128(_mm_srli_si128(sum, 4), _mm_clmulepi64_si128(_mm_and_si128(sum, low), by8, 0x00));
        __m128i part = _mm_clmulepi64_si128(_mm_and_si128(sum, low), barrett, 0x10);
        part = _mm_clmulepi64_si128(_mm_and_si128(part, low), barrett, 0x00);
        crc = (uint32_t)_mm_extract_epi32(_mm_xor_si128(sum, part), 1);
    }
    for (; n > 0; p++, n--) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}
