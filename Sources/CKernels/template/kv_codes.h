// Keys and values of ZN_KV_BLOCK tokens in 4 bits (CKernels.h, "caches of keys and values").

// x as a half and what the half is; x is finite.
ZN_INLINE float as_half(float x, uint16_t *half) {
    uint16_t halves[16];
    float lane[16];
    v_store_f16(halves, v_set(x));
    v_store(lane, v_load_f16(halves));
    *half = halves[0];
    return lane[0];
}

// The scale and the minimum of 16 codes of 4 bits for numbers from `lowest` to `highest`; the scale's inverse, 0 for a scale of 0.
ZN_INLINE float scale_of_codes(float lowest, float highest, uint16_t *scale, uint16_t *minimum, float *from) {
    *from = as_half(lowest, minimum);
    const float step = as_half((highest - *from) / 15.0f, scale);
    return step > 0 ? 1.0f / step : 0;
}

ZN_INLINE v16 to_code(v16 x, v16 from, v16 inverse) {
    return v_min(v_max(v_round(v_mul(v_sub(x, from), inverse)), v_set(0)), v_set(15));
}

// 16 codes of an even k and 16 of the odd one after it.
ZN_INLINE void store_codes(uint8_t *to, v16 even, v16 odd) {
    int8_t low[16], high[16];
    v_to_bytes(low, even);
    v_to_bytes(high, odd);
    for (int i = 0; i < 16; i++) to[i] = (uint8_t)(low[i] | high[i] << 4);
}

// Elements of a panel of values in half precision. Those beyond the head's width are whatever is there; they count as the first
// of the panel, so that they change no scale.
ZN_INLINE v16 load_values_f16(const uint16_t *panel, int64_t elements) {
    if (elements >= 16) return v_load_f16(panel);
    uint16_t halves[16];
    for (int i = 0; i < 16; i++) halves[i] = panel[i < elements ? i : 0];
    return v_load_f16(halves);
}

static void encode_kv_block(uint8_t *block, const uint16_t *keys, const uint16_t *values, int64_t value_panel_stride,
                            int64_t head_dim, int64_t padded_dim) {
    const int64_t words = (head_dim + 1) / 2;
    uint16_t *key_scales = (uint16_t *)(block + zn_kv_scales_offset(head_dim, padded_dim)), *key_minima = key_scales + head_dim;
    uint16_t *value_scales = key_minima + head_dim, *value_minima = value_scales + ZN_KV_BLOCK;
    for (int64_t w = 0; w < words; w++) {
        v16 codes[2][ZN_KV_BLOCK / 16];
        for (int odd = 0; odd < 2; odd++) {
            const int64_t e = 2 * w + odd;
            for (int p = 0; p < ZN_KV_BLOCK / 16; p++) codes[odd][p] = v_set(0);
            if (e == head_dim) continue;
            v16 most = v_set(-INFINITY), least = v_set(-INFINITY);
            for (int p = 0; p < ZN_KV_BLOCK / 16; p++) {
                const v16 x = v_load_f16(keys + p * 16 * head_dim + e * 16);
                codes[odd][p] = x;
                most = v_max(most, x);
                least = v_max(least, v_sub(v_set(0), x));
            }
            float from;
            const float inverse = scale_of_codes(-v_highest(least), v_highest(most), key_scales + e, key_minima + e, &from);
            for (int p = 0; p < ZN_KV_BLOCK / 16; p++) codes[odd][p] = to_code(codes[odd][p], v_set(from), v_set(inverse));
        }
        for (int p = 0; p < ZN_KV_BLOCK / 16; p++) store_codes(block + (p * words + w) * 16, codes[0][p], codes[1][p]);
    }
    uint8_t *out = block + zn_kv_values_offset(head_dim);
    for (int64_t position = 0; position < ZN_KV_BLOCK; position += 2) {
        float from[2], inverse[2];
        for (int odd = 0; odd < 2; odd++) {
            v16 most = v_set(-INFINITY), least = v_set(-INFINITY);
            for (int64_t p = 0; p < padded_dim / 16; p++) {
                const v16 x =
                    load_values_f16(values + p * value_panel_stride + (position + odd) * 16, head_dim - p * 16);
                most = v_max(most, x);
                least = v_max(least, v_sub(v_set(0), x));
            }
            inverse[odd] = scale_of_codes(-v_highest(least), v_highest(most), value_scales + position + odd,
                                          value_minima + position + odd, from + odd);
        }
        for (int64_t p = 0; p < padded_dim / 16; p++) {
            const uint16_t *pair = values + p * value_panel_stride + position * 16;
            store_codes(out + p * (ZN_KV_BLOCK / 2 * 16) + position / 2 * 16,
                        to_code(load_values_f16(pair, head_dim - p * 16), v_set(from[0]), v_set(inverse[0])),
                        to_code(load_values_f16(pair + 16, head_dim - p * 16), v_set(from[1]), v_set(inverse[1])));
        }
    }
}

// code * scale + minimum of `words` pairs of k, of which the last may have no odd one.
ZN_INLINE void decode_codes(float *to, const uint8_t *codes, const uint16_t *scales, const uint16_t *minima, int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        const v16i bytes = vi_load_u8(codes + k / 2 * 16);
        const v16 code = v_from_int(k % 2 == 0 ? vi_field(bytes, 0, 15) : vi_field(bytes, 4, 15));
        float scale[16], minimum[16];
        v_store(scale, load_typed_n(scales, ZN_F16, k, 1));
        v_store(minimum, load_typed_n(minima, ZN_F16, k, 1));
        v_store(to + k * 16, v_fma(code, v_set(scale[0]), v_set(minimum[0])));
    }
}

static void decode_kv_block(float *keys, float *values, int64_t value_panel_stride, const uint8_t *block, int64_t head_dim,
                            int64_t padded_dim) {
    const uint16_t *halves = (const uint16_t *)(block + zn_kv_scales_offset(head_dim, padded_dim));
    for (int64_t p = 0; p < ZN_KV_BLOCK / 16 && keys != NULL; p++) {
        decode_codes(keys + p * 16 * head_dim, block + p * ((head_dim + 1) / 2) * 16, halves, halves + head_dim, head_dim);
    }
    for (int64_t p = 0; p < padded_dim / 16 && values != NULL; p++) {
        decode_codes(values + p * value_panel_stride, block + zn_kv_values_offset(head_dim) + p * (ZN_KV_BLOCK / 2 * 16),
                     halves + 2 * head_dim, halves + 2 * head_dim + ZN_KV_BLOCK, ZN_KV_BLOCK);
    }
}
