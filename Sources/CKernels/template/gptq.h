// The column sweep of GPTQ inside one block, lanes = output rows.

// Columns whose errors stay in registers while they are taken from later columns: one at a time, every later column is read
// and written for each, and a store a cycle sets the pace.
#define GPTQ_STRIP 4

// Columns first ..< first + count, each corrected by those before it in the strip; then those behind the strip.
ZN_INLINE void gptq_strip(const int count, int64_t first, float *w, float *original, const float *u, int64_t u_stride,
                          int64_t columns, const float *scales, const float *zeros, v16 high, uint8_t *codes,
                          float *errors, double *loss) {
    const v16 low = v_set(0);
    v16 error[GPTQ_STRIP];
#pragma clang loop unroll(full)
    for (int c = 0; c < count; c++) {
        const int64_t i = first + c;
        v16 weight = v_load(w + i * 16);
#pragma clang loop unroll(full)
        for (int b = 0; b < c; b++) weight = v_fnma(v_set(u[(first + b) * u_stride + i]), error[b], weight);
        const v16 scale = v_load(scales + i * 16), zero = v_load(zeros + i * 16);
        const v16 code = v_min(v_max(v_add(v_round(v_div(weight, scale)), zero), low), high);
        const v16 quantized = v_mul(scale, v_sub(code, zero));
        error[c] = v_div(v_sub(weight, quantized), v_set(u[i * u_stride + i]));
        v_store(w + i * 16, weight);
        if (original != NULL) v_store(original + i * 16, v_sub(v_load(original + i * 16), quantized));
        v_store(errors + i * 16, error[c]);
        float code_lane[16], error_lane[16];
        v_store(code_lane, code);
        v_store(error_lane, error[c]);
        for (int r = 0; r < 16; r++) {
            codes[i * 16 + r] = (uint8_t)code_lane[r];
            loss[r] += 0.5 * ((double)error_lane[r] * (double)error_lane[r]);
        }
    }
    // Every later column of the block sees these errors, in their order; the columns are independent of each other.
    for (int64_t j = first + count; j < columns; j++) {
        v16 weight = v_load(w + j * 16);
#pragma clang loop unroll(full)
        for (int c = 0; c < count; c++) weight = v_fnma(v_set(u[(first + c) * u_stride + j]), error[c], weight);
        v_store(w + j * 16, weight);
    }
}

static void gptq_block(float *w, float *original, const float *u, int64_t u_stride, int64_t columns,
                       const float *scales, const float *zeros, float maxq, uint8_t *codes, float *errors,
                       double *loss) {
    const v16 high = v_set(maxq);
    int64_t i = 0;
    for (; i + GPTQ_STRIP <= columns; i += GPTQ_STRIP) {
        gptq_strip(GPTQ_STRIP, i, w, original, u, u_stride, columns, scales, zeros, high, codes, errors, loss);
    }
    for (; i < columns; i++) gptq_strip(1, i, w, original, u, u_stride, columns, scales, zeros, high, codes, errors, loss);
}
