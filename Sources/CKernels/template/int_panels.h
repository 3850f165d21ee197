// Panels of integer codes. (code - zero) * scale is exact in 32 bits, so unpacking loses nothing and any order of
// unpacking gives the same weights.

// Inputs that one 64-byte block holds, for fields of `bits`.
#define BLOCK_INPUTS(bits) (32 / (bits))

// The code of input j of the block for each of the 16 outputs.
ZN_INLINE v16 block_codes(v16i block, const int bits, const int j) {
    return v_from_int(vi_field(block, 8 * (j % 4) + bits * (j / 4), (1u << bits) - 1));
}

ZN_INLINE v16 group_zeros(const uint8_t *zeros, const int bits, int64_t group) {
    return zeros == NULL ? v_set((float)(1 << (bits - 1))) : v_load_u8(zeros + group * 16);
}

ZN_INLINE void dequantize_panel_bits(float *panel, const uint8_t *codes, const int bits, const uint16_t *scales,
                                     const uint8_t *zeros, int64_t group_size, int64_t first_k, int64_t k) {
    const int inputs = BLOCK_INPUTS(bits);
    int64_t done = 0;
    while (done < k) {
        const int64_t at = first_k + done, group = at / group_size;
        int64_t run = (group + 1) * group_size - at;
        if (run > k - done) run = k - done;
        const v16 scale = v_load_f16(scales + group * 16), zero = group_zeros(zeros, bits, group);
        for (int64_t r = 0; r < run; r += inputs) {
            const v16i block = vi_load(codes + (at + r) / inputs * 64);
#pragma clang loop unroll(full)
            for (int j = 0; j < inputs; j++) {
                v_store(panel + (done + r + j) * 16, v_mul(v_sub(block_codes(block, bits, j), zero), scale));
            }
        }
        done += run;
    }
}

static void dequantize_panel(float *panel, const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                             int64_t group_size, int64_t first_k, int64_t k) {
    if (bits == 4) {
        dequantize_panel_bits(panel, codes, 4, scales, zeros, group_size, first_k, k);
    } else if (bits == 8) {
        dequantize_panel_bits(panel, codes, 8, scales, zeros, group_size, first_k, k);
    } else {
        dequantize_panel_bits(panel, codes, 2, scales, zeros, group_size, first_k, k);
    }
}

ZN_INLINE void gemv_some_int_panels(const int count, float *y, const float *x, const uint8_t *codes, const int bits,
                                    const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t groups,
                                    int64_t panel_code_bytes, int64_t first, int64_t k) {
    const int inputs = BLOCK_INPUTS(bits);
    v16 sum[4];
    for (int p = 0; p < count; p++) sum[p] = v_set(0);
    for (int64_t group = 0; group < groups; group++) {
        const int64_t start = group * group_size, end = start + group_size < k ? start + group_size : k;
        v16 scale[4], zero[4];
        for (int p = 0; p < count; p++) {
            scale[p] = v_load_f16(scales + ((first + p) * groups + group) * 16);
            zero[p] = group_zeros(zeros == NULL ? NULL : zeros + (first + p) * groups * 16, bits, group);
        }
        for (int64_t at = start; at < end; at += inputs) {
            v16i block[4];
            for (int p = 0; p < count; p++) block[p] = vi_load(codes + (first + p) * panel_code_bytes + at / inputs * 64);
#pragma clang loop unroll(full)
            for (int j = 0; j < inputs; j++) {
                const v16 left = v_set(x[at + j]);
#pragma clang loop unroll(full)
                for (int p = 0; p < count; p++) {
                    const v16 weight = v_mul(v_sub(block_codes(block[p], bits, j), zero[p]), scale[p]);
                    sum[p] = v_fma(left, weight, sum[p]);
                }
            }
        }
    }
    for (int p = 0; p < count; p++) v_store(y + (first + p) * 16, sum[p]);
}

ZN_INLINE void gemv_int_panels_bits(float *y, const float *x, const uint8_t *codes, const int bits,
                                    const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t groups,
                                    int64_t panel_code_bytes, int64_t panels, int64_t k) {
    int64_t p = 0;
    for (; p + 4 <= panels; p += 4) {
        gemv_some_int_panels(4, y, x, codes, bits, scales, zeros, group_size, groups, panel_code_bytes, p, k);
    }
    for (; p < panels; p++) {
        gemv_some_int_panels(1, y, x, codes, bits, scales, zeros, group_size, groups, panel_code_bytes, p, k);
    }
}

static void gemv_int_panels(float *y, const float *x, const uint8_t *codes, int bits, const uint16_t *scales,
                            const uint8_t *zeros, int64_t group_size, int64_t groups, int64_t panel_code_bytes,
                            int64_t panels, int64_t k) {
    if (bits == 4) {
        gemv_int_panels_bits(y, x, codes, 4, scales, zeros, group_size, groups, panel_code_bytes, panels, k);
    } else if (bits == 8) {
        gemv_int_panels_bits(y, x, codes, 8, scales, zeros, group_size, groups, panel_code_bytes, panels, k);
    } else {
        gemv_int_panels_bits(y, x, codes, 2, scales, zeros, group_size, groups, panel_code_bytes, panels, k);
    }
}
