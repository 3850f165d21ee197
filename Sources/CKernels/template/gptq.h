// The column sweep of GPTQ inside one block, lanes = output rows.

static void gptq_block(float *w, float *original, const float *u, int64_t u_stride, int64_t columns,
                       const float *scales, const float *zeros, float maxq, uint8_t *codes, float *errors,
                       double *loss) {
    const v16 low = v_set(0), high = v_set(maxq);
    for (int64_t i = 0; i < columns; i++) {
        const float *row = u + i * u_stride;
        const v16 diagonal = v_set(row[i]);
        const v16 scale = v_load(scales + i * 16), zero = v_load(zeros + i * 16);
        const v16 weight = v_load(w + i * 16);
        const v16 code = v_min(v_max(v_add(v_round(v_div(weight, scale)), zero), low), high);
        const v16 quantized = v_mul(scale, v_sub(code, zero));
        const v16 difference = v_sub(weight, quantized);
        if (original != NULL) v_store(original + i * 16, v_sub(v_load(original + i * 16), quantized));
        const v16 error = v_div(difference, diagonal);
        v_store(errors + i * 16, error);
        float code_lane[16], error_lane[16];
        v_store(code_lane, code);
        v_store(error_lane, error);
        for (int r = 0; r < 16; r++) {
            codes[i * 16 + r] = (uint8_t)code_lane[r];
            loss[r] += 0.5 * ((double)error_lane[r] * (double)error_lane[r]);
        }
        // Every later column of the block sees this error; the columns are independent of each other.
        for (int64_t j = i + 1; j < columns; j++) {
            v_store(w + j * 16, v_fnma(v_set(row[j]), error, v_load(w + j * 16)));
        }
    }
}
