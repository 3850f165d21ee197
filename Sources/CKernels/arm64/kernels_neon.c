// NEON (ARMv8-A): a vector of 16 lanes is four registers.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "../internal.h"
#pragma STDC FP_CONTRACT OFF

typedef struct { float32x4_t q[4]; } v16;
typedef struct { uint32x4_t q[4]; } v16i;

#define QUARTERS(expression)                                                                                           \
    v16 result;                                                                                                        \
    for (int i = 0; i < 4; i++) result.q[i] = (expression);                                                            \
    return result

ZN_INLINE v16 v_load(const float *p) { QUARTERS(vld1q_f32(p + 4 * i)); }
ZN_INLINE void v_store(float *p, v16 v) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.q[i]);
}
ZN_INLINE v16 v_set(float x) { QUARTERS(vdupq_n_f32(x)); }
ZN_INLINE v16 v_fma(v16 x, v16 y, v16 z) { QUARTERS(vfmaq_f32(z.q[i], x.q[i], y.q[i])); }
ZN_INLINE v16 v_fnma(v16 x, v16 y, v16 z) { QUARTERS(vfmsq_f32(z.q[i], x.q[i], y.q[i])); }
ZN_INLINE v16 v_add(v16 x, v16 y) { QUARTERS(vaddq_f32(x.q[i], y.q[i])); }
ZN_INLINE v16 v_sub(v16 x, v16 y) { QUARTERS(vsubq_f32(x.q[i], y.q[i])); }
ZN_INLINE v16 v_mul(v16 x, v16 y) { QUARTERS(vmulq_f32(x.q[i], y.q[i])); }
ZN_INLINE v16 v_div(v16 x, v16 y) { QUARTERS(vdivq_f32(x.q[i], y.q[i])); }
// As x86 defines them: the second operand when either is NaN.
ZN_INLINE v16 v_max(v16 x, v16 y) { QUARTERS(vbslq_f32(vcgtq_f32(x.q[i], y.q[i]), x.q[i], y.q[i])); }
ZN_INLINE v16 v_min(v16 x, v16 y) { QUARTERS(vbslq_f32(vcltq_f32(x.q[i], y.q[i]), x.q[i], y.q[i])); }
ZN_INLINE v16 v_round(v16 x) { QUARTERS(vrndnq_f32(x.q[i])); }
ZN_INLINE v16 v_keep_nan(v16 x, v16 y) { QUARTERS(vbslq_f32(vceqq_f32(x.q[i], x.q[i]), y.q[i], x.q[i])); }
ZN_INLINE v16 v_zero_below(v16 x, v16 limit, v16 y) {
    QUARTERS(vbslq_f32(vcltq_f32(x.q[i], limit.q[i]), vdupq_n_f32(0), y.q[i]));
}
ZN_INLINE v16 v_scale_by_power(v16 p, v16 n) {
    QUARTERS(vmulq_f32(p.q[i], vreinterpretq_f32_s32(vshlq_n_s32(
                                   vaddq_s32(vcvtnq_s32_f32(n.q[i]), vdupq_n_s32(127)), 23))));
}
ZN_INLINE v16 v_load_f16(const uint16_t *p) { QUARTERS(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
ZN_INLINE v16 v_load_bf16(const uint16_t *p) {
    QUARTERS(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}
ZN_INLINE v16 v_load_i8(const int8_t *p) {
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (v16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
ZN_INLINE v16 v_load_u8(const uint8_t *p) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    return (v16){{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
                  vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
}
ZN_INLINE void v_store_f16(uint16_t *p, v16 v) {
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v.q[i])));
}
ZN_INLINE void v_store_bf16(uint16_t *p, v16 v) {
    for (int i = 0; i < 4; i++) {
        const uint32x4_t bits = vreinterpretq_u32_f32(v.q[i]);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd), 16);
        const uint32x4_t quiet = vorrq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(0x40));
        vst1_u16(p + 4 * i, vmovn_u32(vbslq_u32(vceqq_f32(v.q[i], v.q[i]), rounded, quiet)));
    }
}

ZN_INLINE v16i vi_load(const void *p) {
    v16i result;
    for (int i = 0; i < 4; i++) result.q[i] = vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)p + 16 * i));
    return result;
}
ZN_INLINE v16i vi_field(v16i v, int shift, uint32_t mask) {
    v16i result;
    for (int i = 0; i < 4; i++) result.q[i] = vandq_u32(vshlq_u32(v.q[i], vdupq_n_s32(-shift)), vdupq_n_u32(mask));
    return result;
}
ZN_INLINE v16 v_bf16_even(v16i v) { QUARTERS(vreinterpretq_f32_u32(vshlq_n_u32(v.q[i], 16))); }
ZN_INLINE v16 v_bf16_odd(v16i v) {
    QUARTERS(vreinterpretq_f32_u32(vandq_u32(v.q[i], vdupq_n_u32(0xFFFF0000))));
}
ZN_INLINE v16 v_from_int(v16i v) { QUARTERS(vcvtq_f32_s32(vreinterpretq_s32_u32(v.q[i]))); }

#include "../template/lanewise.h"

ZN_INLINE v16i vi_zero(void) {
    v16i result;
    for (int i = 0; i < 4; i++) result.q[i] = vdupq_n_u32(0);
    return result;
}
ZN_INLINE v16i vi_add(v16i a, v16i b) {
    for (int i = 0; i < 4; i++) a.q[i] = vaddq_u32(a.q[i], b.q[i]);
    return a;
}
ZN_INLINE void vi_store(void *p, v16i v) {
    for (int i = 0; i < 4; i++) vst1q_u8((uint8_t *)p + 16 * i, vreinterpretq_u8_u32(v.q[i]));
}
ZN_INLINE v16i vi_set(int32_t x) {
    v16i result;
    for (int i = 0; i < 4; i++) result.q[i] = vdupq_n_u32((uint32_t)x);
    return result;
}
ZN_INLINE v16 vi_as_float(v16i v) { QUARTERS(vreinterpretq_f32_u32(v.q[i])); }
// Codes in the upper bits of their bytes, so that they count 2^(8 - bits) times.
ZN_INLINE v16i vi_codes(v16i v, int field, int bits) {
    return vi_field(v, field * bits - (8 - bits), (0xFFu << (8 - bits) & 0xFFu) * 0x01010101u);
}
ZN_INLINE v16i vi_word(const int8_t *p) {
    uint32_t word;
    memcpy(&word, p, 4);
    v16i result;
    for (int i = 0; i < 4; i++) result.q[i] = vdupq_n_u32(word);
    return result;
}
// Widening multiplies of ARMv8.0: no dot-product extension is assumed.
ZN_INLINE v16i vi_dot(v16i sum, v16i codes, v16i x) {
    for (int i = 0; i < 4; i++) {
        const uint8x16_t c = vreinterpretq_u8_u32(codes.q[i]);
        const int8x16_t s = vreinterpretq_s8_u32(x.q[i]);
        const int16x8_t c0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(c))), c1 = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(c)));
        const int16x8_t x0 = vmovl_s8(vget_low_s8(s)), x1 = vmovl_s8(vget_high_s8(s));
        const int32x4_t p0 = vmull_s16(vget_low_s16(c0), vget_low_s16(x0)), p1 = vmull_s16(vget_high_s16(c0), vget_high_s16(x0));
        const int32x4_t p2 = vmull_s16(vget_low_s16(c1), vget_low_s16(x1)), p3 = vmull_s16(vget_high_s16(c1), vget_high_s16(x1));
        const int32x4_t total = vpaddq_s32(vpaddq_s32(p0, p1), vpaddq_s32(p2, p3));
        sum.q[i] = vaddq_u32(sum.q[i], vreinterpretq_u32_s32(total));
    }
    return sum;
}

ZN_INLINE v16i v_as_int(v16 v) {
    v16i result;
    for (int i = 0; i < 4; i++) result.q[i] = vreinterpretq_u32_f32(v.q[i]);
    return result;
}
ZN_INLINE v16i vi_shift_left_23(v16i v) {
    for (int i = 0; i < 4; i++) v.q[i] = vshlq_n_u32(v.q[i], 23);
    return v;
}
ZN_INLINE v16i vi_load_u8(const uint8_t *p) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    return (v16i){{vmovl_u16(vget_low_u16(low)), vmovl_u16(vget_high_u16(low)), vmovl_u16(vget_low_u16(high)),
                   vmovl_u16(vget_high_u16(high))}};
}
// To the nearest bf16, subnormals to zero.
ZN_INLINE v16 v_round_bf16(v16 v) {
    for (int i = 0; i < 4; i++) {
        const uint32x4_t bits = vreinterpretq_u32_f32(v.q[i]);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
        const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
        // Of the bits alone: a comparison of floats would take subnormals for zero.
        const uint32x4_t nan = vcgtq_u32(vandq_u32(bits, vdupq_n_u32(0x7FFFFFFF)), vdupq_n_u32(0x7F800000));
        const uint32x4_t chosen = vandq_u32(vbslq_u32(nan, quiet, rounded), vdupq_n_u32(0xFFFF0000));
        v.q[i] = vreinterpretq_f32_u32(vandq_u32(chosen, vtstq_u32(bits, vdupq_n_u32(0x7F800000))));
    }
    return v;
}

ZN_INLINE void v_transpose(v16 rows[16]) {
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 4; j++) {
            const float32x4x2_t low = vtrnq_f32(rows[i].q[j], rows[i + 1].q[j]);
            const float32x4x2_t high = vtrnq_f32(rows[i + 2].q[j], rows[i + 3].q[j]);
            rows[i].q[j] = vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0]));
            rows[i + 1].q[j] = vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1]));
            rows[i + 2].q[j] = vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0]));
            rows[i + 3].q[j] = vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1]));
        }
    }
    for (int i = 0; i < 4; i++) {
        for (int j = i + 1; j < 4; j++) {
            for (int r = 0; r < 4; r++) {
                const float32x4_t swap = rows[4 * i + r].q[j];
                rows[4 * i + r].q[j] = rows[4 * j + r].q[i];
                rows[4 * j + r].q[i] = swap;
            }
        }
    }
}

#define TILE_ROWS 4
#define TILE_PANELS 1
#define INT8_ROWS 4
#define INT8_PANELS 1
#define GEMV_PANELS 4
#define TABLE_CRC32 NULL
#define TABLE zn_table_neon
#define TABLE_ISA ZN_ISA_NEON
#define TABLE_NAME "neon"
#include "../template/table.h"
#endif
