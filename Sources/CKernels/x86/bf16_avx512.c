// AVX512-BF16: gemm_bf16() and attend() of the AVX-512 table on processors that multiply pairs of bf16 faster than floats.
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "../internal.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,prfchw,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"))),     \
                             apply_to = function)

#include "vector_avx512.h"

ZN_INLINE v16 dot_bf16(v16 sum, v16i left, v16i right) {
    return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
}
#define v_dot_bf16 dot_bf16

#define TILE_ROWS 6
#define TILE_PANELS 4
#include "../template/vector_tail.h"
#include "../template/bf16_tiles.h"

// 32 successive numbers, rounded to the nearest, subnormals to zero.
ZN_INLINE void v_store_pair_of_bf16(uint16_t *to, v16 low, v16 high) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}
ZN_INLINE v16i v_words_of_bf16(v16 even, v16 odd) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}
// Words of 128 + code: bf16 has 7 bits after the leading one, so that a code is its last bits.
ZN_INLINE v16i vi_words_of_codes(v16i bytes) {
    const v16i both = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
    return _mm512_or_si512(_mm512_and_si512(both, _mm512_set1_epi32(0x000F000F)), _mm512_set1_epi32(0x43004300));
}
#define NATIVE_PAIRS
#define GEMV_PANELS 8
#include "../template/attention.h"

// Zen 4 and 5 multiply pairs twice as fast as floats. Intel's cores take as long as for floats or twice as long (Emerald Rapids:
// two cycles, 84 GFLOP/s a core beside 179): there the pairs are multiplied as floats.
static bool multiplies_pairs_faster(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

static bool uses_pairs(void) {
    // 0: not asked yet. Threads that ask at the same time find the same.
    static _Atomic int found;
    int here = found;
    if (here == 0) found = here = multiplies_pairs_faster() ? 2 : 1;
    return here == 2;
}

bool zn_gemm_bf16_avx512(int64_t m, int64_t n_count, int64_t words, const uint32_t *packed_a, const uint32_t *b,
                         int64_t b_panel_stride, float *c, int64_t c_row_stride, bool add) {
    if (!uses_pairs()) return false;
    gemm_bf16_tiles(m, n_count, words, packed_a, b, b_panel_stride, c, c_row_stride, add);
    return true;
}

double zn_burn_pairs_avx512(int64_t rounds, float *result) { return uses_pairs() ? burn_pairs(rounds, result) : 0; }

bool zn_attend_avx512(const zn_attention *job, float *scratch) {
    if (!uses_pairs()) return false;
    attend(job, scratch);
    return true;
}
#pragma clang attribute pop
#endif
