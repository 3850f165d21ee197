// AVX2, FMA, F16C: a vector of 16 lanes is two registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "../internal.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,pclmul"))), apply_to = function)

#include "crc32.h"
#include "transpose8.h"

typedef struct { __m256 a, b; } v16;
typedef struct { __m256i a, b; } v16i;

#define BOTH(operation) ((v16){operation(x.a, y.a), operation(x.b, y.b)})

ZN_INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
ZN_INLINE void v_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
ZN_INLINE v16 v_set(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return (v16){v, v};
}
ZN_INLINE v16 v_fma(v16 x, v16 y, v16 z) {
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
ZN_INLINE v16 v_fnma(v16 x, v16 y, v16 z) {
    return (v16){_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}
ZN_INLINE v16 v_add(v16 x, v16 y) { return BOTH(_mm256_add_ps); }
ZN_INLINE v16 v_sub(v16 x, v16 y) { return BOTH(_mm256_sub_ps); }
ZN_INLINE v16 v_mul(v16 x, v16 y) { return BOTH(_mm256_mul_ps); }
ZN_INLINE v16 v_div(v16 x, v16 y) { return BOTH(_mm256_div_ps); }
ZN_INLINE v16 v_max(v16 x, v16 y) { return BOTH(_mm256_max_ps); }
ZN_INLINE v16 v_min(v16 x, v16 y) { return BOTH(_mm256_min_ps); }
ZN_INLINE v16 v_round(v16 x) {
    return (v16){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
ZN_INLINE v16 v_keep_nan(v16 x, v16 y) {
    return (v16){_mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q)),
                 _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q))};
}
ZN_INLINE v16 v_zero_below(v16 x, v16 limit, v16 y) {
    return (v16){_mm256_andnot_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ), y.a),
                 _mm256_andnot_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ), y.b)};
}
ZN_INLINE __m256 power_of_two(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
ZN_INLINE v16 v_scale_by_power(v16 p, v16 n) {
    return (v16){_mm256_mul_ps(p.a, power_of_two(n.a)), _mm256_mul_ps(p.b, power_of_two(n.b))};
}
ZN_INLINE v16 v_load_f16(const uint16_t *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
ZN_INLINE __m256 widen_bf16(const uint16_t *p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
ZN_INLINE v16 v_load_bf16(const uint16_t *p) { return (v16){widen_bf16(p), widen_bf16(p + 8)}; }
ZN_INLINE v16 v_load_i8(const int8_t *p) {
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8))))};
}
ZN_INLINE v16 v_load_u8(const uint8_t *p) {
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                 _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8))))};
}
ZN_INLINE void v_store_f16(uint16_t *p, v16 v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
ZN_INLINE __m128i narrow_bf16(__m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
}
ZN_INLINE void v_store_bf16(uint16_t *p, v16 v) {
    _mm_storeu_si128((__m128i *)p, narrow_bf16(v.a));
    _mm_storeu_si128((__m128i *)(p + 8), narrow_bf16(v.b));
}

ZN_INLINE v16i vi_load(const void *p) {
    return (v16i){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
ZN_INLINE v16i vi_field(v16i v, int shift, uint32_t mask) {
    const __m256i m = _mm256_set1_epi32((int)mask);
    return (v16i){_mm256_and_si256(_mm256_srli_epi32(v.a, shift), m), _mm256_and_si256(_mm256_srli_epi32(v.b, shift), m)};
}
ZN_INLINE v16 v_bf16_even(v16i v) {
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(v.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(v.b, 16))};
}
ZN_INLINE v16 v_bf16_odd(v16i v) {
    const __m256i upper = _mm256_set1_epi32((int)0xFFFF0000);
    return (v16){_mm256_castsi256_ps(_mm256_and_si256(v.a, upper)), _mm256_castsi256_ps(_mm256_and_si256(v.b, upper))};
}
ZN_INLINE v16 v_from_int(v16i v) { return (v16){_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }

ZN_INLINE void v_to_bytes(int8_t *p, v16 v) {
    const __m256i pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b));
    const __m256i ordered = _mm256_permute4x64_epi64(pairs, 0xD8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(ordered),
                                                   _mm256_extracti128_si256(ordered, 1)));
}
ZN_INLINE float v_highest(v16 v) {
    const __m256 eight = _mm256_max_ps(v.a, v.b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

ZN_INLINE v16i vi_zero(void) { return (v16i){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
ZN_INLINE v16i vi_add(v16i a, v16i b) {
    return (v16i){_mm256_add_epi32(a.a, b.a), _mm256_add_epi32(a.b, b.b)};
}
ZN_INLINE void vi_store(void *p, v16i v) {
    _mm256_storeu_si256((__m256i *)p, v.a);
    _mm256_storeu_si256((__m256i *)p + 1, v.b);
}
ZN_INLINE v16i vi_set(int32_t x) { return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
ZN_INLINE v16 vi_as_float(v16i v) { return (v16){_mm256_castsi256_ps(v.a), _mm256_castsi256_ps(v.b)}; }
ZN_INLINE v16i vi_codes(v16i v, int field, int bits) {
    const __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1));
    return (v16i){_mm256_and_si256(_mm256_srli_epi32(v.a, field * bits), mask),
                  _mm256_and_si256(_mm256_srli_epi32(v.b, field * bits), mask)};
}
ZN_INLINE v16i vi_word(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    const __m256i v = _mm256_set1_epi32(word);
    return (v16i){v, v};
}
// For codes of up to 4 bits: a pair of products is at most 2 * 15 * 127, so the pairs of eight steps stay in 16 bits. By
// name, or the compiler turns chains of such sums into trees, for which registers do not suffice.
ZN_INLINE __m256i add_pair(__m256i pairs, __m256i codes, __m256i x) {
    __asm__("vpaddw %1, %0, %0" : "+x"(pairs) : "x"(_mm256_maddubs_epi16(codes, x)));
    return pairs;
}
ZN_INLINE v16i vi_pairs(v16i pairs, v16i codes, v16i x) {
    return (v16i){add_pair(pairs.a, codes.a, x.a), add_pair(pairs.b, codes.b, x.b)};
}
// Adding neighbours multiplies them, too.
ZN_INLINE v16i vi_add_pairs(v16i sum, v16i pairs, int bits) {
    const __m256i factor = _mm256_set1_epi16((short)(1 << (8 - bits)));
    return (v16i){_mm256_add_epi32(sum.a, _mm256_madd_epi16(pairs.a, factor)),
                  _mm256_add_epi32(sum.b, _mm256_madd_epi16(pairs.b, factor))};
}
// Codes of 8 bits, whose pairs would saturate: even and odd bytes are widened first. All others go through vi_pairs.
ZN_INLINE __m256i dot8_wide(__m256i sum, __m256i codes, __m256i x) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xFF)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
ZN_INLINE v16i vi_dot(v16i sum, v16i codes, v16i x) {
    return (v16i){dot8_wide(sum.a, codes.a, x.a), dot8_wide(sum.b, codes.b, x.b)};
}

ZN_INLINE v16i v_as_int(v16 v) { return (v16i){_mm256_castps_si256(v.a), _mm256_castps_si256(v.b)}; }
ZN_INLINE v16i vi_shift_left_23(v16i v) { return (v16i){_mm256_slli_epi32(v.a, 23), _mm256_slli_epi32(v.b, 23)}; }
ZN_INLINE v16i vi_load_u8(const uint8_t *p) {
    return (v16i){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                  _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}
// To the nearest bf16, subnormals to zero.
ZN_INLINE __m256 round_bf16(__m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i chosen = _mm256_and_si256(_mm256_blendv_epi8(rounded, quiet, nan), _mm256_set1_epi32((int)0xFFFF0000));
    const __m256i small =
        _mm256_cmpeq_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7F800000)), _mm256_setzero_si256());
    return _mm256_castsi256_ps(_mm256_andnot_si256(small, chosen));
}
ZN_INLINE v16 v_round_bf16(v16 v) { return (v16){round_bf16(v.a), round_bf16(v.b)}; }

ZN_INLINE void v_transpose(v16 rows[16]) {
    __m256 quarter[4][8];
    for (int i = 0; i < 8; i++) {
        quarter[0][i] = rows[i].a;
        quarter[1][i] = rows[i].b;
        quarter[2][i] = rows[i + 8].a;
        quarter[3][i] = rows[i + 8].b;
    }
    for (int q = 0; q < 4; q++) transpose8(quarter[q]);
    for (int i = 0; i < 8; i++) {
        rows[i] = (v16){quarter[0][i], quarter[2][i]};
        rows[i + 8] = (v16){quarter[1][i], quarter[3][i]};
    }
}

// Sixteen steps of six rows as a tile of a product's left side: step by step the six rows' floats. Two more are stored with
// each step, which the next overwrites, but with the last.
ZN_INLINE void pack_sixteen_steps(float *tile, const float *a, int64_t row_stride) {
    for (int half = 0; half < 2; half++) {
        __m256 step[8];
        for (int r = 0; r < 6; r++) step[r] = _mm256_loadu_ps(a + r * row_stride + 8 * half);
        step[6] = step[7] = _mm256_setzero_ps();
        transpose8(step);
        float *out = tile + 48 * half;
        for (int s = 0; s < 7; s++) _mm256_storeu_ps(out + 6 * s, step[s]);
        _mm_storeu_ps(out + 42, _mm256_castps256_ps128(step[7]));
        _mm_storel_pi((__m64 *)(out + 46), _mm256_extractf128_ps(step[7], 1));
    }
}
#define PACK_SIXTEEN_STEPS pack_sixteen_steps

#define TILE_ROWS 6
#define TILE_PANELS 1
#define INT8_ROWS 4
#define INT8_PANELS 1
#define INT8_PAIRS
// Rows that stay in the second-level cache beside a block of panels (384 KB): 512 KB are all that Zen 3 has. 120 rows: 2 to 7 % slower.
#define ROW_TILES 6
// Half as many tiles begin and end, each with its sums to read and to write, as with 384.
#define BLOCK_DEPTH 768
// Zen 3, 1.8B shape, of the read bandwidth: 2 KB ahead 0.96, 1 KB 0.93, 3 KB 0.94, 4 KB 0.91, 6 and 10 KB 0.90.
#define PREFETCH_BYTES 2048
#define GEMV_PANELS 4
#define TABLE_CRC32 crc32_clmul
#define TABLE zn_table_avx2
#define TABLE_ISA ZN_ISA_AVX2
#define TABLE_NAME "avx2"
#include "../template/table.h"
#pragma clang attribute pop
#endif
