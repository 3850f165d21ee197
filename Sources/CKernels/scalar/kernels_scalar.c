// The reference: plain C, one lane after the other. Every other table must give the same bits.
#include "../internal.h"
#pragma STDC FP_CONTRACT OFF

typedef struct { float lane[16]; } v16;
typedef struct { uint32_t lane[16]; } v16i;

#define LANES(expression)                                                                                              \
    v16 result;                                                                                                        \
    for (int i = 0; i < 16; i++) result.lane[i] = (expression);                                                        \
    return result

ZN_INLINE v16 v_load(const float *p) { LANES(p[i]); }
ZN_INLINE void v_store(float *p, v16 v) { memcpy(p, v.lane, sizeof v.lane); }
ZN_INLINE v16 v_set(float x) { LANES(x); }
ZN_INLINE v16 v_fma(v16 a, v16 b, v16 c) { LANES(fmaf(a.lane[i], b.lane[i], c.lane[i])); }
ZN_INLINE v16 v_fnma(v16 a, v16 b, v16 c) { LANES(fmaf(-a.lane[i], b.lane[i], c.lane[i])); }
ZN_INLINE v16 v_add(v16 a, v16 b) { LANES(a.lane[i] + b.lane[i]); }
ZN_INLINE v16 v_sub(v16 a, v16 b) { LANES(a.lane[i] - b.lane[i]); }
ZN_INLINE v16 v_mul(v16 a, v16 b) { LANES(a.lane[i] * b.lane[i]); }
ZN_INLINE v16 v_div(v16 a, v16 b) { LANES(a.lane[i] / b.lane[i]); }
// As x86 defines them: the second operand when either is NaN.
ZN_INLINE v16 v_max(v16 a, v16 b) { LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
ZN_INLINE v16 v_min(v16 a, v16 b) { LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
ZN_INLINE v16 v_round(v16 a) { LANES(rintf(a.lane[i])); }
ZN_INLINE v16 v_keep_nan(v16 x, v16 y) { LANES(x.lane[i] != x.lane[i] ? x.lane[i] : y.lane[i]); }
ZN_INLINE v16 v_zero_below(v16 x, v16 limit, v16 y) { LANES(x.lane[i] < limit.lane[i] ? 0.0f : y.lane[i]); }

// p * 2^n for whole n with a normal result.
ZN_INLINE v16 v_scale_by_power(v16 p, v16 n) {
    v16 result;
    for (int i = 0; i < 16; i++) {
        const uint32_t bits = (uint32_t)((int32_t)n.lane[i] + 127) << 23;
        float power;
        memcpy(&power, &bits, sizeof power);
        result.lane[i] = p.lane[i] * power;
    }
    return result;
}

ZN_INLINE float half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1F, fraction = h & 0x3FF;
    uint32_t bits;
    if (exponent == 0x1F) {
        // A signalling NaN becomes quiet, as the conversion instructions make it.
        bits = sign | 0x7F800000 | fraction << 13 | (fraction ? 0x400000 : 0);
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        const float magnitude = (float)fraction * 0x1p-24f;
        memcpy(&bits, &magnitude, sizeof bits);
        bits |= sign;
    }
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

ZN_INLINE uint16_t float_to_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);  // rounds to 65536 or more
    if (magnitude >= 0x38800000) {                                   // a normal half
        const uint32_t rebased = magnitude - 0x38000000;
        return (uint16_t)(sign | (rebased + 0xFFF + (rebased >> 13 & 1)) >> 13);
    }
    float scaled;
    memcpy(&scaled, &magnitude, sizeof scaled);
    return (uint16_t)(sign | (uint16_t)rintf(scaled * 0x1p24f));
}

ZN_INLINE v16 v_load_f16(const uint16_t *p) { LANES(half_to_float(p[i])); }
ZN_INLINE v16 v_load_bf16(const uint16_t *p) {
    v16 result;
    for (int i = 0; i < 16; i++) {
        const uint32_t bits = (uint32_t)p[i] << 16;
        memcpy(&result.lane[i], &bits, sizeof bits);
    }
    return result;
}
ZN_INLINE v16 v_load_i8(const int8_t *p) { LANES((float)p[i]); }
ZN_INLINE v16 v_load_u8(const uint8_t *p) { LANES((float)p[i]); }
ZN_INLINE void v_store_f16(uint16_t *p, v16 v) {
    for (int i = 0; i < 16; i++) p[i] = float_to_half(v.lane[i]);
}
ZN_INLINE void v_store_bf16(uint16_t *p, v16 v) {
    for (int i = 0; i < 16; i++) {
        uint32_t bits;
        memcpy(&bits, &v.lane[i], sizeof bits);
        const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
        p[i] = (uint16_t)(nan ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
}

ZN_INLINE v16i vi_load(const void *p) {
    v16i result;
    memcpy(result.lane, p, sizeof result.lane);
    return result;
}
ZN_INLINE v16i vi_field(v16i v, int shift, uint32_t mask) {
    v16i result;
    for (int i = 0; i < 16; i++) result.lane[i] = v.lane[i] >> shift & mask;
    return result;
}
ZN_INLINE v16 v_from_int(v16i v) { LANES((float)(int32_t)v.lane[i]); }

ZN_INLINE v16 v_bf16_even(v16i v) {
    for (int i = 0; i < 16; i++) v.lane[i] <<= 16;
    v16 result;
    memcpy(result.lane, v.lane, sizeof result.lane);
    return result;
}
ZN_INLINE v16 v_bf16_odd(v16i v) {
    for (int i = 0; i < 16; i++) v.lane[i] &= 0xFFFF0000;
    v16 result;
    memcpy(result.lane, v.lane, sizeof result.lane);
    return result;
}

#include "../template/lanewise.h"

ZN_INLINE v16i vi_zero(void) { return (v16i){{0}}; }
ZN_INLINE v16i vi_add(v16i a, v16i b) {
    for (int i = 0; i < 16; i++) a.lane[i] += b.lane[i];
    return a;
}
ZN_INLINE void vi_store(void *p, v16i v) { memcpy(p, v.lane, sizeof v.lane); }
ZN_INLINE v16i vi_set(int32_t x) {
    v16i result;
    for (int i = 0; i < 16; i++) result.lane[i] = (uint32_t)x;
    return result;
}
ZN_INLINE v16 vi_as_float(v16i v) {
    v16 result;
    memcpy(result.lane, v.lane, sizeof result.lane);
    return result;
}
// Codes in the upper bits of their bytes, so that they count 2^(8 - bits) times.
ZN_INLINE v16i vi_codes(v16i v, int field, int bits) {
    const uint32_t upper = (0xFFu << (8 - bits) & 0xFFu) * 0x01010101u;
    for (int i = 0; i < 16; i++) v.lane[i] = v.lane[i] << (8 - bits - field * bits) & upper;
    return v;
}
ZN_INLINE v16i vi_word(const int8_t *p) {
    v16i result;
    for (int i = 0; i < 16; i++) memcpy(&result.lane[i], p, 4);
    return result;
}
// Four products of unsigned bytes of `codes` and signed bytes of `x` are added to each lane.
ZN_INLINE v16i vi_dot(v16i sum, v16i codes, v16i x) {
    for (int i = 0; i < 16; i++) {
        int32_t total = (int32_t)sum.lane[i];
        for (int j = 0; j < 32; j += 8) total += (int32_t)(codes.lane[i] >> j & 0xFF) * (int8_t)(x.lane[i] >> j & 0xFF);
        sum.lane[i] = (uint32_t)total;
    }
    return sum;
}

ZN_INLINE v16i v_as_int(v16 v) {
    v16i result;
    memcpy(result.lane, v.lane, sizeof result.lane);
    return result;
}
ZN_INLINE v16i vi_shift_left_23(v16i v) {
    for (int i = 0; i < 16; i++) v.lane[i] <<= 23;
    return v;
}
ZN_INLINE v16i vi_load_u8(const uint8_t *p) {
    v16i result;
    for (int i = 0; i < 16; i++) result.lane[i] = p[i];
    return result;
}
// To the nearest bf16, subnormals to zero.
ZN_INLINE v16 v_round_bf16(v16 v) {
    for (int i = 0; i < 16; i++) {
        uint32_t bits;
        memcpy(&bits, &v.lane[i], sizeof bits);
        const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
        if ((bits & 0x7F800000) == 0) bits = 0;
        bits = nan ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1);
        bits &= 0xFFFF0000;
        memcpy(&v.lane[i], &bits, sizeof bits);
    }
    return v;
}

ZN_INLINE void v_transpose(v16 rows[16]) {
    for (int i = 0; i < 16; i++) {
        for (int j = i + 1; j < 16; j++) {
            const float swap = rows[i].lane[j];
            rows[i].lane[j] = rows[j].lane[i];
            rows[j].lane[i] = swap;
        }
    }
}

#define TILE_ROWS 4
#define TILE_PANELS 1
#define INT8_ROWS 4
#define INT8_PANELS 1
#define GEMV_PANELS 1
#define TABLE_CRC32 NULL
#define TABLE zn_table_scalar
#define TABLE_ISA ZN_ISA_SCALAR
#define TABLE_NAME "scalar"
#include "../template/table.h"
