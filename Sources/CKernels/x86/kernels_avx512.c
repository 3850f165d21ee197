// AVX-512: a vector of 16 lanes is one register.
#if defined(__x86_64__)
#include <immintrin.h>

#include "../internal.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx2,fma,f16c,pclmul,prfchw,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)

#include "crc32.h"
#include "transpose8.h"

#include "vector_avx512.h"

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
#define NATIVE_ATTEND zn_attend_avx512
#define NATIVE_BURN_PAIRS zn_burn_pairs_avx512
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
