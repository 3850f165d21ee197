// AVX-512: a vector of 16 lanes is one register.
#if defined(__x86_64__)
#include <immintrin.h>

#include "../internal.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx2,fma,f16c,pclmul,prfchw,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)

#include "crc32.h"
#include "transpose8.h"

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

ZN_INLINE void v_transpose(v16 rows[16]) {
    __m256 quarter[4][8];
    for (int i = 0; i < 8; i++) {
        quarter[0][i] = _mm512_castps512_ps256(rows[i]);
        quarter[1][i] = _mm512_extractf32x8_ps(rows[i], 1);
        quarter[2][i] = _mm512_castps512_ps256(rows[i + 8]);
        quarter[3][i] = _mm512_extractf32x8_ps(rows[i + 8], 1);
    }
    for (int q = 0; q < 4; q++) transpose8(quarter[q]);
    for (int i = 0; i < 8; i++) {
        rows[i] = _mm512_insertf32x8(_mm512_castps256_ps512(quarter[0][i]), quarter[2][i], 1);
        rows[i + 8] = _mm512_insertf32x8(_mm512_castps256_ps512(quarter[1][i]), quarter[3][i], 1);
    }
}

// Sixteen steps of six rows as a tile of a product's left side: step by step the six rows' floats. Pairs of rows first,
// then three pairs.
ZN_INLINE void pack_sixteen_steps(float *tile, const float *a, int64_t row_stride) {
    const __m512i lower = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(8));
    const __m512i first[3] = {_mm512_setr_epi64(0, 8, 0, 1, 9, 0, 2, 10), _mm512_setr_epi64(0, 3, 11, 0, 4, 12, 0, 5),
                              _mm512_setr_epi64(13, 0, 6, 14, 0, 7, 15, 0)};
    const __m512i second[3] = {_mm512_setr_epi64(0, 1, 8, 3, 4, 9, 6, 7), _mm512_setr_epi64(10, 1, 2, 11, 4, 5, 12, 7),
                               _mm512_setr_epi64(0, 13, 2, 3, 14, 5, 6, 15)};
    __m512 row[6];
    for (int r = 0; r < 6; r++) row[r] = _mm512_loadu_ps(a + r * row_stride);
    for (int half = 0; half < 2; half++) {
        const __m512i order = half == 0 ? lower : upper;
        __m512d pair[3];
        for (int p = 0; p < 3; p++) {
            pair[p] = _mm512_castps_pd(_mm512_permutex2var_ps(row[2 * p], order, row[2 * p + 1]));
        }
        for (int part = 0; part < 3; part++) {
            const __m512d two = _mm512_permutex2var_pd(pair[0], first[part], pair[1]);
            _mm512_storeu_pd((double *)(tile + half * 48 + part * 16),
                             _mm512_permutex2var_pd(two, second[part], pair[2]));
        }
    }
}
#define PACK_SIXTEEN_STEPS pack_sixteen_steps

#define NATIVE_GEMM_BF16 zn_gemm_bf16_avx512
// 24 sums of 16 lanes; 10 loads feed them, where 12 x 2 would need 14 and wait for the load ports.
#define TILE_ROWS 6
#define TILE_PANELS 4
#define INT8_ROWS 6
#define INT8_PANELS 2
#define INT8_DOT_INSTRUCTION
// Words that are operands in memory, the last of six (the first gain nothing). Emerald Rapids: four are 2 to 4 % faster than
// two, two 1 to 2 % faster than none. Zen 4 has one wide load a cycle, as many as byte products: four would need them all.
#define INT8_FOLDED 2
#define INT8_FOLDED_INTEL 4
#define GEMV_PANELS 8
#define TABLE_CRC32 crc32_clmul
#define TABLE zn_table_avx512
#define TABLE_ISA ZN_ISA_AVX512
#define TABLE_NAME "avx512"
#include "../template/table.h"
#pragma clang attribute pop
#endif
