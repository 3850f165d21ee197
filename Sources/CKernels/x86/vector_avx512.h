// The vector type of AVX-512 and its operations: a vector of 16 lanes is one register.
#pragma once

typedef __m512 v16;
typedef __m512i v16i;

ZN_INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
ZN_INLINE void v_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
ZN_INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
ZN_INLINE v16 v_fma(v16 x, v16 y, v16 z) { return _mm512_fmadd_ps(x, y, z); }
ZN_INLINE v16 v_fnma(v16 x, v16 y, v16 z) { return _mm512_fnmadd_ps(x, y, z); }
ZN_INLINE v16 v_add(v16 x, v16 y) { return _mm512_add_ps(x, y); }
ZN_INLINE v16 v_sub(v16 x, v16 y) { return _mm512_sub_ps(x, y); }
ZN_INLINE v16 v_mul(v16 x, v16 y) { return _mm512_mul_ps(x, y); }
ZN_INLINE v16 v_div(v16 x, v16 y) { return _mm512_div_ps(x, y); }
ZN_INLINE v16 v_max(v16 x, v16 y) { return _mm512_max_ps(x, y); }
ZN_INLINE v16 v_min(v16 x, v16 y) { return _mm512_min_ps(x, y); }
ZN_INLINE v16 v_round(v16 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ZN_INLINE v16 v_keep_nan(v16 x, v16 y) {
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}
ZN_INLINE v16 v_zero_below(v16 x, v16 limit, v16 y) {
    return _mm512_maskz_mov_ps(_mm512_knot(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ)), y);
}
ZN_INLINE v16 v_scale_by_power(v16 p, v16 n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23)));
}
ZN_INLINE v16 v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
ZN_INLINE v16 v_load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
ZN_INLINE v16 v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
ZN_INLINE v16 v_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
ZN_INLINE void v_store_f16(uint16_t *p, v16 v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
// Not the instruction of AVX512-BF16: it flushes subnormals, and not every AVX-512 machine has it.
ZN_INLINE void v_store_bf16(uint16_t *p, v16 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet)));
}

ZN_INLINE v16i vi_load(const void *p) { return _mm512_loadu_si512(p); }
ZN_INLINE v16i vi_field(v16i v, int shift, uint32_t mask) {
    return _mm512_and_si512(_mm512_srli_epi32(v, (unsigned)shift), _mm512_set1_epi32((int)mask));
}
ZN_INLINE v16 v_bf16_even(v16i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
ZN_INLINE v16 v_bf16_odd(v16i v) {
    return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xFFFF0000)));
}
ZN_INLINE v16 v_from_int(v16i v) { return _mm512_cvtepi32_ps(v); }

ZN_INLINE void v_to_bytes(int8_t *p, v16 v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
ZN_INLINE float v_highest(v16 v) { return _mm512_reduce_max_ps(v); }

ZN_INLINE v16i vi_zero(void) { return _mm512_setzero_si512(); }
ZN_INLINE v16i vi_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
ZN_INLINE void vi_store(void *p, v16i v) { _mm512_storeu_si512(p, v); }
ZN_INLINE v16i vi_set(int32_t x) { return _mm512_set1_epi32(x); }
ZN_INLINE v16 vi_as_float(v16i v) { return _mm512_castsi512_ps(v); }
// Codes in the upper bits of their bytes, so that they count 2^(8 - bits) times.
ZN_INLINE v16i vi_codes(v16i v, int field, int bits) {
    const v16i upper = _mm512_set1_epi8((char)(0xFF << (8 - bits)));
    return _mm512_and_si512(_mm512_slli_epi32(v, (unsigned)(8 - bits - field * bits)), upper);
}
ZN_INLINE v16i vi_word(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
}
ZN_INLINE v16i vi_dot(v16i sum, v16i codes, v16i x) { return _mm512_dpbusd_epi32(sum, codes, x); }
// The word straight from memory: an instruction less, a load more. The compiler would load it once, into a register.
ZN_INLINE v16i vi_dot_word(v16i sum, v16i codes, const int8_t *word) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*(const int8_t(*)[4])word));
    return sum;
}

ZN_INLINE v16i v_as_int(v16 v) { return _mm512_castps_si512(v); }
ZN_INLINE v16i vi_shift_left_23(v16i v) { return _mm512_slli_epi32(v, 23); }
ZN_INLINE v16i vi_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
// To the nearest bf16, subnormals to zero.
ZN_INLINE v16 v_round_bf16(v16 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i chosen = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    const __mmask16 normal = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7F800000));
    return _mm512_castsi512_ps(_mm512_maskz_and_epi32(normal, chosen, _mm512_set1_epi32((int)0xFFFF0000)));
}
