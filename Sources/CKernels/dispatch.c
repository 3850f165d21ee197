// Which table runs here. A feature counts only when the CPU has it AND the operating system saves its registers.
#include <stdlib.h>

#include "internal.h"

#if defined(__x86_64__)
#include <cpuid.h>

// Extended control register 0 says which register files the operating system saves on a context switch
// (Intel SDM vol. 1, 13.3): bits 1 and 2 for XMM and YMM, 5 to 7 for the AVX-512 state.
static uint64_t saved_state(void) {
    uint32_t a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

bool zn_is_intel;
static __attribute__((constructor)) void look_at_processor(void) {
    unsigned a, b, c, d;
    zn_is_intel = __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
}

static bool runs(zn_isa isa) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    const bool clmul = c >> 1 & 1, fma = c >> 12 & 1, osxsave = c >> 27 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
    if (!osxsave || !avx || !clmul || !fma || !f16c || (saved_state() & 0x06) != 0x06) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(b >> 5 & 1)) return false;  // AVX2
    if (isa == ZN_ISA_AVX2) return true;
    const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1, vnni = c >> 11 & 1;
    return isa == ZN_ISA_AVX512 && f && dq && bw && vl && vnni && (saved_state() & 0xE6) == 0xE6;
}
#else
bool zn_is_intel;
#endif

// The scalar table with one wrong function: what `zhinao-verify self-check` must notice. Only ZHINAO_ISA=faulty gets it.
static void wrong_silu_multiply(float *y, const float *gate, const float *up, int64_t n) {
    zn_table_scalar.silu_multiply(y, gate, up, n);
    for (int64_t i = 0; i < n; i += 37) y[i] *= 1.01f;
}
static const zn_kernels *faulty(void) {
    static zn_kernels table;
    table = zn_table_scalar;
    table.silu_multiply = wrong_silu_multiply;
    table.name = "faulty";
    return &table;
}

const zn_kernels *zn_kernels_for(zn_isa isa) {
    switch (isa) {
    case ZN_ISA_SCALAR: return &zn_table_scalar;
#if defined(__x86_64__)
    case ZN_ISA_AVX2: return runs(isa) ? &zn_table_avx2 : NULL;
    case ZN_ISA_AVX512: return runs(isa) ? &zn_table_avx512 : NULL;
#elif defined(__aarch64__)
    case ZN_ISA_NEON: return &zn_table_neon;
#endif
    default: return NULL;
    }
}

const zn_kernels *zn_kernels_requested(void) {
    const char *name = getenv("ZHINAO_ISA");
    if (name == NULL || *name == 0) return zn_kernels_best();
    if (strcmp(name, "scalar") == 0) return zn_kernels_for(ZN_ISA_SCALAR);
    if (strcmp(name, "avx2") == 0) return zn_kernels_for(ZN_ISA_AVX2);
    if (strcmp(name, "avx512") == 0) return zn_kernels_for(ZN_ISA_AVX512);
    if (strcmp(name, "neon") == 0) return zn_kernels_for(ZN_ISA_NEON);
    if (strcmp(name, "faulty") == 0) return faulty();
    return NULL;
}

static const zn_kernels *fastest(void) {
    static const zn_isa order[] = {ZN_ISA_AVX512, ZN_ISA_NEON, ZN_ISA_AVX2};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        const zn_kernels *table = zn_kernels_for(order[i]);
        if (table != NULL) return table;
    }
    return &zn_table_scalar;
}

const zn_kernels *zn_kernels_best(void) {
    const char *name = getenv("ZHINAO_ISA");
    if (name == NULL || *name == 0) return fastest();
    const zn_kernels *table = zn_kernels_requested();
    return table != NULL ? table : fastest();
}
