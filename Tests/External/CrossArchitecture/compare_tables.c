// Compares every kernel of every table this machine runs with the scalar one, bit for bit, on random inputs. Made for
// instruction sets that the development machine does not have: build it with a cross compiler, run it under qemu-user
// (see `run` beside it).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

static uint64_t state = 360;
static uint64_t next(void) {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
static float *floats(int64_t n, float spread) {
    float *p = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) p[i] = spread * ((float)(next() >> 40) / (float)(1 << 23) - 1.0f);
    return p;
}
static uint8_t *bytes(int64_t n) {
    uint8_t *p = malloc((size_t)n);
    for (int64_t i = 0; i < n; i++) p[i] = (uint8_t)next();
    return p;
}
static void *copy(const void *p, int64_t n) { return memcpy(malloc((size_t)n), p, (size_t)n); }

static int passed, failed;
static void check(const char *what, const char *table, const void *a, const void *b, int64_t n) {
    if (memcmp(a, b, (size_t)n) == 0) {
        passed++;
    } else {
        failed++;
        printf("%s differs from scalar: %s\n", table, what);
    }
}

// Both tables pack for themselves: their tiles have different numbers of rows.
static void compare_bf16(const zn_kernels *s, const zn_kernels *t, int64_t m, int64_t n, int64_t k, const float *x,
                         const float *panel) {
    const int64_t words = (k + 1) / 2, panels = (n + 15) / 16;
    const zn_kernels *tables[2] = {s, t};
    float *results[2];
    uint32_t *narrowed[2];
    for (int which = 0; which < 2; which++) {
        const zn_kernels *table = tables[which];
        uint32_t *left = malloc((size_t)((m + 16) * words) * 4);
        uint32_t *right = narrowed[which] = malloc((size_t)(panels * 16 * words) * 4);
        float *out = results[which] = malloc((size_t)(m * n) * 4);
        table->pack_rows_bf16(left, x, k, m, k);
        for (int64_t p = 0; p < panels; p++) table->narrow_panel_bf16(right + p * 16 * words, panel + p * 16 * k, k);
        table->gemm_bf16(m, n, words, left, right, 16 * words, out, n, false);
        table->gemm_bf16(m, n, words, left, right, 16 * words, out, n, true);
    }
    check("narrow_panel_bf16", t->name, narrowed[0], narrowed[1], panels * 16 * words * 4);
    check("gemm_bf16", t->name, results[0], results[1], m * n * 4);
}

// The shape of the integer products that are compared: two runs of spans, the last one short.
enum { K = 448, PANELS = 5, GROUP = 64, GROUPS = K / GROUP };

// Several rows at once, in both ways of gemm_int8, against the scalar kernel for one row.
static void compare_int8_rows(const zn_kernels *s, const zn_kernels *t, int64_t block, int bits, const uint8_t *codes,
                              const uint16_t *scales, const uint8_t *zeros) {
    enum { MOST = 40 };
    const int64_t code_bytes = K * 2 * bits;
    float *x = floats(MOST * K, 2);
    int8_t *q = malloc((MOST + 16) * K);
    float *block_scales = malloc((MOST + 16) * K), *sums = malloc((MOST + 16) * K);
    float *wide = malloc(PANELS * MOST * 64), one[PANELS * 16];
    uint8_t *scratch = aligned_alloc(64, (size_t)zn_int8_scratch(MOST, PANELS));
    int32_t counts[MOST];
    // One with outliers, one without.
    zn_outlier *outliers = zeros == NULL ? NULL : malloc(MOST * (size_t)zn_outlier_most(K) * sizeof(zn_outlier));
    for (int64_t i = 0; i < MOST; i += 2) x[i * K + 5] = 60, x[i * K + 5 + 64 * (i % 3)] = 70;
    for (int64_t m = 7; m <= MOST; m += MOST - 7) {
        // In two parts, as two threads do.
        const int64_t tile = t->int8_rows, part = m > tile ? tile : m;
        t->quantize_rows(q, block_scales, sums, x, K, 0, part, m, K, GROUP, block, tile, outliers, counts);
        t->quantize_rows(q, block_scales, sums, x + part * K, K, part, m - part, m, K, GROUP, block, tile, outliers,
                         counts);
        t->gemm_int8(m, q, block_scales, sums, block, codes, bits, scales, zeros, GROUP, GROUPS, code_bytes, PANELS, K,
                     wide, PANELS * 16, scratch);
        if (outliers != NULL) {
            t->add_outliers(m, wide, PANELS * 16, outliers, counts, codes, bits, scales, zeros, GROUP, GROUPS, code_bytes,
                            PANELS, K);
        }
        for (int64_t row = 0; row < m; row += 3) {
            s->quantize_rows(q, block_scales, sums, x + row * K, K, 0, 1, 1, K, GROUP, block, 1, outliers, counts);
            s->gemv_int8(q, block_scales, sums, block, codes, bits, scales, zeros, GROUP, GROUPS, code_bytes, PANELS, K,
                         one);
            if (outliers != NULL) {
                s->add_outliers(1, one, PANELS * 16, outliers, counts, codes, bits, scales, zeros, GROUP, GROUPS,
                                code_bytes, PANELS, K);
            }
            check("a row of gemm_int8", t->name, one, wide + row * PANELS * 16, sizeof one);
        }
    }
}

// A few rows with panels of every type, and the chains of CKernels.h one by one.
static void compare_gemv(const zn_kernels *s, const zn_kernels *t) {
    const int64_t panels = 11, k = 45, stride = k * 16 + 16;
    const uint8_t *stored = bytes((size_t)(panels * stride) * 4);
    float *source = floats(panels * stride, 1), *wide = malloc((size_t)(panels * stride) * 4);
    uint16_t *narrowed = malloc((size_t)(panels * stride) * 2);
    for (int type = ZN_F32; type <= ZN_I8; type++) {
        const void *b = type == ZN_F32 ? (const void *)source : type == ZN_I8 ? (const void *)stored : (const void *)narrowed;
        if (type == ZN_F16 || type == ZN_BF16) s->narrow(narrowed, source, (zn_float_type)type, panels * stride);
        s->widen_panel(wide, b, (zn_float_type)type, panels * stride / 16);
        for (int64_t rows = 1; rows <= 7; rows++) {
            float *x = floats(rows * (k + 3), 1), *y = floats(rows * (panels * 16 + 5), 1);
            float *expected = copy(y, (size_t)(rows * (panels * 16 + 5)) * 4);
            for (int add = 0; add < 2; add++) {
                t->gemv_panels(rows, y, panels * 16 + 5, x, k + 3, b, (zn_float_type)type, stride, panels, k, add);
                for (int64_t i = 0; i < rows; i++) {
                    for (int64_t n = 0; n < panels * 16; n++) {
                        float *sum = expected + i * (panels * 16 + 5) + n;
                        if (!add) *sum = 0;
                        for (int64_t step = 0; step < k; step++) {
                            *sum = fmaf(x[i * (k + 3) + step], wide[n / 16 * stride + step * 16 + n % 16], *sum);
                        }
                    }
                }
                check("gemv_panels", t->name, expected, y, (size_t)(rows * (panels * 16 + 5)) * 4);
            }
        }
    }
}

// The sweep as CKernels.h says it, column by column.
static void gptq_plainly(float *w, float *original, const float *u, int64_t columns, const float *scales,
                         const float *zeros, float maxq, uint8_t *codes, float *errors, double *loss) {
#pragma STDC FP_CONTRACT OFF
    for (int64_t i = 0; i < columns; i++) {
        for (int r = 0; r < 16; r++) {
            const int64_t at = i * 16 + r;
            const float code = fminf(fmaxf(rintf(w[at] / scales[at]) + zeros[at], 0), maxq);
            const float quantized = scales[at] * (code - zeros[at]);
            codes[at] = (uint8_t)code;
            original[at] -= quantized;
            errors[at] = (w[at] - quantized) / u[i * columns + i];
            loss[r] += 0.5 * ((double)errors[at] * (double)errors[at]);
            for (int64_t j = i + 1; j < columns; j++) {
                w[j * 16 + r] = fmaf(-u[i * columns + j], errors[at], w[j * 16 + r]);
            }
        }
    }
}

static void compare_gptq(const zn_kernels *t) {
    // No multiples of what kernels take at a time; each column a group of its own.
    const int64_t columns = 67, panels = 3, size = columns * 16, all = panels * size;
    float *w = floats(all, 1), *v = copy(w, all * 4), *u = floats(columns * columns, 0.1f);
    for (int64_t i = 0; i < columns; i++) u[i * columns + i] = 1 + fabsf(u[i * columns + i]);
    float *scales = floats(all, 0.1f), *zeros = floats(all, 0);
    for (int64_t i = 0; i < all; i++) scales[i] = 0.1f + fabsf(scales[i]), zeros[i] = 8;
    int32_t group_of[67];
    for (int64_t i = 0; i < columns; i++) group_of[i] = (int32_t)i;
    uint8_t *codes[2] = {bytes(all), bytes(all)};
    float *errors[2] = {floats(all, 1), floats(all, 1)};
    float *before = floats(all, 1), *after = copy(before, all * 4);
    double loss[2][3 * 16] = {{0}};
    for (int64_t p = 0; p < panels; p++) {
        gptq_plainly(w + p * size, before + p * size, u, columns, scales + p * size, zeros + p * size, 15,
                     codes[0] + p * size, errors[0] + p * size, loss[0] + p * 16);
    }
    t->gptq_block(panels, columns, v, size, after, size, u, columns, scales, zeros, size, group_of, 15, codes[1], errors[1],
                  loss[1]);
    check("gptq_block's weights", t->name, w, v, all * 4);
    check("gptq_block's differences", t->name, before, after, all * 4);
    check("gptq_block's codes", t->name, codes[0], codes[1], all);
    check("gptq_block's errors", t->name, errors[0], errors[1], all * 4);
    check("gptq_block's loss", t->name, loss[0], loss[1], sizeof loss[0]);
}

static void compare_gptq_rows(const zn_kernels *s, const zn_kernels *t) {
    const int64_t columns = 67, panels = ZN_ROW_PANELS, size = columns * 16, all = panels * size, rows = panels * 16;
    const int64_t stride = rows * 16;
    float *u = floats(columns * columns, 0.1f), *f = floats(rows * rows, 0.2f), *before = floats(rows * columns, 0.3f);
    for (int64_t i = 0; i < columns; i++) u[i * columns + i] = 1 + fabsf(u[i * columns + i]);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k <= i; k++) f[i * rows + k] = 0;
    }
    float *scales = floats(all, 0.1f), *zeros = floats(all, 0);
    for (int64_t i = 0; i < all; i++) scales[i] = 0.1f + fabsf(scales[i]), zeros[i] = 8;
    int32_t group_of[67];
    for (int64_t i = 0; i < columns; i++) group_of[i] = (int32_t)i;
    float *w[2] = {floats(all, 1), NULL}, *original[2] = {floats(all, 1), NULL};
    w[1] = copy(w[0], all * 4), original[1] = copy(original[0], all * 4);
    uint8_t *codes[2] = {bytes(all), bytes(all)};
    float *errors[2] = {floats(all, 1), floats(all, 1)}, *differences[2];
    double loss[2][ZN_ROW_PANELS * 16] = {{0}};
    for (int i = 0; i < 2; i++) {
        differences[i] = calloc((size_t)(5 * stride), 4);
        (i ? t : s)->gptq_rows(panels, columns, w[i], size, original[i], size, u, columns, scales, zeros, size, group_of,
                               15, codes[i], errors[i], loss[i], before, columns, f, rows, differences[i], stride);
    }
    check("gptq_rows' weights", t->name, w[0], w[1], all * 4);
    check("gptq_rows' originals", t->name, original[0], original[1], all * 4);
    check("gptq_rows' codes", t->name, codes[0], codes[1], all);
    check("gptq_rows' errors", t->name, errors[0], errors[1], all * 4);
    check("gptq_rows' differences", t->name, differences[0], differences[1], 5 * stride * 4);
    check("gptq_rows' loss", t->name, loss[0], loss[1], sizeof loss[0]);
}

static void compare(const zn_kernels *s, const zn_kernels *t) {
    const int64_t sizes[] = {1, 5, 16, 33, 96};
    for (int round = 0; round < 5; round++) {
        const int64_t m = sizes[round], n = sizes[4 - round] + 3, k = 96, panels = (n + 15) / 16;
        float *a = floats(m * k, 1), *b = floats(panels * 16 * k, 1), *c = floats(m * n, 1), *d = copy(c, m * n * 4);
        for (int mode = 0; mode < 3; mode++) {
            s->gemm(m, n, k, a, k, 1, b, 16 * k, c, n, 16, (zn_gemm_mode)mode);
            t->gemm(m, n, k, a, k, 1, b, 16 * k, d, n, 16, (zn_gemm_mode)mode);
            check("gemm", t->name, c, d, m * n * 4);
            float *packed = malloc((size_t)((m + 16) * k) * 4);
            t->pack_rows(packed, a, k, 1, m, k);
            t->gemm_packed(m, n, k, packed, b, 16 * k, d, n, 16, ZN_OVERWRITE);
            s->gemm(m, n, k, a, k, 1, b, 16 * k, c, n, 16, ZN_OVERWRITE);
            check("gemm_packed", t->name, c, d, m * n * 4);
        }
        // Some of the summed indices of panels that lie in memory with all of them.
        float *some = malloc((size_t)((m + 16) * k) * 4);
        t->pack_rows(some, a, k, 1, m, k / 2);
        t->gemm_packed(m, n, k / 2, some, b, 16 * k, d, n, 16, ZN_ADD_BLOCK);
        s->gemm(m, n, k / 2, a, k, 1, b, 16 * k, c, n, 16, ZN_ADD_BLOCK);
        check("gemm_packed beside other inputs", t->name, c, d, m * n * 4);
        float *panels_of[2] = {malloc((size_t)(panels * 16 * m) * 4), malloc((size_t)(panels * 16 * m) * 4)};
        s->copy_panels(panels_of[0], 16 * m, c, ZN_F32, n, n, m), t->copy_panels(panels_of[1], 16 * m, c, ZN_F32, n, n, m);
        check("copy_panels", t->name, panels_of[0], panels_of[1], panels * 16 * m * 4);
        compare_bf16(s, t, m, n, k - round % 2, a, b);
        const int64_t count = sizes[round] * 7;
        float *x = floats(count, 20), *w = floats(count, 1);
        float *y = malloc((size_t)count * 4), *z = malloc((size_t)count * 4);
        s->rms_norm(y, x, w, count, 1e-5f), t->rms_norm(z, x, w, count, 1e-5f);
        check("rms_norm", t->name, y, z, count * 4);
        for (int has = 0; has < 2; has++) {
            const float *residual = has ? w : NULL;
            const float *added = has ? x : NULL;
            s->layer_norm(y, x, added, residual, w, x, count, 1e-12f);
            t->layer_norm(z, x, added, residual, w, x, count, 1e-12f);
            check("layer_norm", t->name, y, z, count * 4);
        }
        void (*const activations[2][3])(float *, const float *, int64_t) = {{s->gelu, s->gelu_tanh, s->relu},
                                                                           {t->gelu, t->gelu_tanh, t->relu}};
        for (int which = 0; which < 6; which++) {
            const float *bias = which < 3 ? w : NULL;
            memcpy(y, x, (size_t)count * 4), memcpy(z, x, (size_t)count * 4);
            activations[0][which % 3](y, bias, count), activations[1][which % 3](z, bias, count);
            check("gelu, gelu_tanh, relu", t->name, y, z, count * 4);
        }
        memcpy(y, x, (size_t)count * 4), memcpy(z, x, (size_t)count * 4);
        s->hyperbolic_tangent(y, count), t->hyperbolic_tangent(z, count);
        s->softmax_panel(y, count / 16), t->softmax_panel(z, count / 16);
        check("hyperbolic_tangent, softmax_panel", t->name, y, z, count * 4);
        s->silu_multiply(y, x, w, count), t->silu_multiply(z, x, w, count);
        check("silu_multiply", t->name, y, z, count * 4);
        float *gates = floats(count, 8), *other_gates = malloc((size_t)count * 4);
        memcpy(other_gates, gates, (size_t)count * 4);
        memcpy(y, w, (size_t)count * 4), memcpy(z, w, (size_t)count * 4);
        s->silu_multiply_gradient(gates, y, x, count), t->silu_multiply_gradient(other_gates, z, x, count);
        check("silu_multiply_gradient of gate", t->name, gates, other_gates, count * 4);
        check("silu_multiply_gradient of up", t->name, y, z, count * 4);
        s->rms_norm_gradient(y, w, x, gates, count, 1e-5f), t->rms_norm_gradient(z, w, x, gates, count, 1e-5f);
        check("rms_norm_gradient", t->name, y, z, count * 4);
        s->layer_norm_gradient(y, w, x, gates, count, 1e-12f), t->layer_norm_gradient(z, w, x, gates, count, 1e-12f);
        check("layer_norm_gradient", t->name, y, z, count * 4);
        void (*const slopes[2][3])(float *, const float *, const float *, int64_t) = {
            {s->gelu_gradient, s->gelu_tanh_gradient, s->relu_gradient},
            {t->gelu_gradient, t->gelu_tanh_gradient, t->relu_gradient}};
        for (int which = 0; which < 6; which++) {
            const float *bias = which < 3 ? gates : NULL;
            memcpy(y, x, (size_t)count * 4), memcpy(z, x, (size_t)count * 4);
            slopes[0][which % 3](y, bias, w, count), slopes[1][which % 3](z, bias, w, count);
            check("gradients of gelu, gelu_tanh, relu", t->name, y, z, count * 4);
        }
        s->softmax_gradient(y, w, 0.3f, 0.125f, count), t->softmax_gradient(z, w, 0.3f, 0.125f, count);
        check("softmax_gradient", t->name, y, z, count * 4);
        float products[2] = {s->dot(x, w, count), t->dot(x, w, count)};
        check("dot", t->name, &products[0], &products[1], 4);
        memcpy(y, x, (size_t)count * 4), memcpy(z, x, (size_t)count * 4);
        float sums[2] = {s->exp_sum(y, 3, count), t->exp_sum(z, 3, count)};
        check("exp_sum", t->name, y, z, count * 4);
        check("exp_sum's sum", t->name, &sums[0], &sums[1], 4);
        double totals[2] = {s->sum_exp(x, 3, count), t->sum_exp(x, 3, count)};
        check("sum_exp", t->name, &totals[0], &totals[1], 8);
        float most[2] = {s->maximum(x, count), t->maximum(x, count)};
        check("maximum", t->name, &most[0], &most[1], 4);
        memcpy(y, x, (size_t)count * 4), memcpy(z, x, (size_t)count * 4);
        s->add(y, w, count), t->add(z, w, count), s->scale(y, 0.3f, count), t->scale(z, 0.3f, count);
        s->rotate(y, w, w + count / 2, count / 2 * 2), t->rotate(z, w, w + count / 2, count / 2 * 2);
        s->multiply(y, w, count), t->multiply(z, w, count);
        check("add, scale, rotate, multiply", t->name, y, z, count * 4);
        int8_t *whole = malloc((size_t)count), *whole_too = malloc((size_t)count);
        float steps[2] = {s->quantize_vector(whole, x, count), t->quantize_vector(whole_too, x, count)};
        check("quantize_vector", t->name, whole, whole_too, count);
        check("quantize_vector's scale", t->name, &steps[0], &steps[1], 4);
        for (int type = 1; type < 3; type++) {
            uint16_t *h = malloc((size_t)count * 2), *g = malloc((size_t)count * 2);
            s->narrow(h, x, (zn_float_type)type, count), t->narrow(g, x, (zn_float_type)type, count);
            check("narrow", t->name, h, g, count * 2);
            s->widen(y, h, (zn_float_type)type, count), t->widen(z, h, (zn_float_type)type, count);
            check("widen", t->name, y, z, count * 4);
        }
        for (int type = 0; type < 3; type++) {
            const int64_t rows = 1 + round * 3;
            float *source = floats(16 * k, 1), *p = malloc((size_t)k * 64), *q = malloc((size_t)k * 64);
            uint16_t *narrowed = malloc((size_t)k * 32);
            if (type > 0) s->narrow(narrowed, source, (zn_float_type)type, 16 * k);
            const void *from = type > 0 ? (const void *)narrowed : (const void *)source;
            s->pack_panel(p, from, (zn_float_type)type, k, rows, k), t->pack_panel(q, from, (zn_float_type)type, k, rows, k);
            check("pack_panel", t->name, p, q, k * 64);
            s->copy_panels(p, 16 * k, from, (zn_float_type)type, 16, rows, k);
            t->copy_panels(q, 16 * k, from, (zn_float_type)type, 16, rows, k);
            check("copy_panels of a type", t->name, p, q, k * 64);
            s->widen_panel(p, from, (zn_float_type)type, k), t->widen_panel(q, from, (zn_float_type)type, k);
            check("widen_panel", t->name, p, q, k * 64);
        }
        for (int64_t rows = 3; rows <= 16; rows += 13) {
            const uint16_t *halves = (const uint16_t *)bytes(32 * (k + 1));
            uint16_t *p = calloc((size_t)k * 20, 2), *q = calloc((size_t)k * 20, 2), *plain = calloc((size_t)k * 20, 2);
            s->transpose16(p, 20, halves, k + 1, rows, k), t->transpose16(q, 20, halves, k + 1, rows, k);
            check("transpose16", t->name, p, q, k * 40);
            for (int64_t c = 0; c < k; c++) {
                for (int64_t r = 0; r < rows; r++) plain[c * 20 + r] = halves[r * (k + 1) + c];
            }
            check("transpose16, element by element", t->name, plain, q, k * 40);
        }
        float *p = malloc((size_t)k * 64), *q = malloc((size_t)k * 64);
        const uint8_t *signed_bytes = bytes(16 * k);
        s->widen_panel(p, signed_bytes, ZN_I8, k), t->widen_panel(q, signed_bytes, ZN_I8, k);
        check("widen_panel of bytes", t->name, p, q, k * 64);
    }
    for (int bits = 2; bits <= 8; bits *= 2) {
        const int64_t k = K, panels = PANELS, group = GROUP, groups = GROUPS, code_bytes = k * 2 * bits, m = 7;
        uint8_t *codes = bytes(panels * code_bytes), *zeros = bytes(panels * groups * 16);
        for (int64_t i = 0; i < panels * groups * 16; i++) zeros[i] &= (uint8_t)((1 << bits) - 1);
        float *scale_values = floats(panels * groups * 16, 0.2f), *x = floats(m * k, 2);
        uint16_t *scales = malloc((size_t)(panels * groups * 32));
        s->narrow(scales, scale_values, ZN_F16, panels * groups * 16);
        float *y = malloc((size_t)k * 64), *z = malloc((size_t)k * 64);
        s->dequantize_panel(y, codes, bits, scales, zeros, group, 32, 128);
        t->dequantize_panel(z, codes, bits, scales, zeros, group, 32, 128);
        check("dequantize_panel", t->name, y, z, 128 * 64);
        s->gemv_int_panels(y, x, codes, bits, scales, NULL, group, groups, code_bytes, panels, k);
        t->gemv_int_panels(z, x, codes, bits, scales, NULL, group, groups, code_bytes, panels, k);
        check("gemv_int_panels", t->name, y, z, panels * 64);
        // fast: one row against several
        int8_t *q = malloc((size_t)(32 * k)), *r = malloc((size_t)(32 * k));
        float *qs = malloc(4096), *qu = malloc(4096), *rs = malloc(4096), *ru = malloc(4096);
        zn_outlier *found[2] = {malloc((size_t)(m * zn_outlier_most(k)) * sizeof(zn_outlier)),
                                malloc((size_t)(m * zn_outlier_most(k)) * sizeof(zn_outlier))};
        int32_t counts[2][7];
        x[5] = 90, x[100] = -70;
        for (int64_t block = ZN_INT8_PART; block <= ZN_INT8_BLOCK_MOST; block *= 2) {
            s->quantize_rows(q, qs, qu, x, k, 0, 1, 1, k, group, block, 1, found[0], counts[0]);
            t->quantize_rows(r, rs, ru, x, k, 0, 1, 1, k, group, block, 1, found[1], counts[1]);
            check("quantize_rows", t->name, q, r, k);
            check("counts of outliers", t->name, counts[0], counts[1], 4);
            check("outliers", t->name, found[0], found[1], (size_t)counts[0][0] * sizeof(zn_outlier));
            s->add_outliers(1, y, 16, found[0], counts[0], codes, bits, scales, zeros, group, groups, code_bytes, panels, k);
            t->add_outliers(1, z, 16, found[0], counts[0], codes, bits, scales, zeros, group, groups, code_bytes, panels, k);
            check("add_outliers", t->name, y, z, panels * 64);
            s->gemv_int8(q, qs, qu, block, codes, bits, scales, zeros, group, groups, code_bytes, panels, k, y);
            t->gemv_int8(r, rs, ru, block, codes, bits, scales, zeros, group, groups, code_bytes, panels, k, z);
            check("gemv_int8", t->name, y, z, panels * 64);
            compare_int8_rows(s, t, block, bits, codes, scales, zeros);
            compare_int8_rows(s, t, block, bits, codes, scales, NULL);
        }
    }
    compare_gemv(s, t);
    compare_gptq(t);
    compare_gptq_rows(s, t);
}

// Attention over keys and values of every type: several tiles of rows and one, a block of keys and parts of one, rows that see
// less than others, and against probabilities in double precision.
static void compare_attention(const zn_kernels *s, const zn_kernels *t, int64_t dim, int64_t group, int64_t tokens, int64_t before) {
    const int64_t padded = (dim + 15) / 16 * 16, rows = tokens * group, positions = (before + tokens + 63) / 64 * 64;
    const int64_t block_bytes = zn_kv_block_bytes(dim, padded), blocks = positions / 64;
    float *queries = floats(rows * dim, 3), *keys = floats(positions * dim, 2), *values = floats(positions * padded, 2);
    float *scales = floats(2 * positions, 0.02f);
    for (int64_t i = 0; i < 2 * positions; i++) scales[i] = fabsf(scales[i]);
    for (int64_t i = 0; i < positions * padded; i++) {
        if (i / 16 / positions * 16 + i % 16 >= dim) values[i] = 0;
    }
    // Products that are subnormal count as zero.
    for (int64_t i = 0; i < positions; i += 3) values[i * 16] = 1e-38f;
    uint16_t *half_keys = malloc((size_t)(positions * dim) * 2), *half_values = malloc((size_t)(positions * padded) * 2);
    s->narrow(half_keys, keys, ZN_F16, positions * dim);
    s->narrow(half_values, values, ZN_F16, positions * padded);
    // What stands beside the elements of a head is anything.
    uint16_t *with_others = copy(half_values, positions * padded * 2);
    for (int64_t i = 0; i < positions * padded; i++) {
        if (i / 16 / positions * 16 + i % 16 >= dim) with_others[i] = 0x7E00;
    }
    uint8_t *byte_keys = bytes(positions * dim), *byte_values = bytes(positions * padded);
    uint8_t *codes = calloc((size_t)blocks, (size_t)block_bytes), *others = calloc((size_t)blocks, (size_t)block_bytes);
    float *decoded_keys = malloc((size_t)(positions * dim) * 4), *decoded_values = malloc((size_t)(positions * padded) * 4);
    float *again_keys = malloc((size_t)(positions * dim) * 4), *again_values = malloc((size_t)(positions * padded) * 4);
    for (int64_t b = 0; b < blocks; b++) {
        const uint16_t *of_keys = half_keys + b * 64 * dim, *of_values = half_values + b * 64 * 16;
        s->encode_kv_block(codes + b * block_bytes, of_keys, of_values, positions * 16, dim, padded);
        t->encode_kv_block(others + b * block_bytes, of_keys, with_others + b * 64 * 16, positions * 16, dim, padded);
        s->decode_kv_block(decoded_keys + b * 64 * dim, decoded_values + b * 1024, positions * 16, codes + b * block_bytes, dim, padded);
        t->decode_kv_block(again_keys + b * 64 * dim, again_values + b * 1024, positions * 16, codes + b * block_bytes, dim, padded);
    }
    check("encode_kv_block", t->name, codes, others, blocks * block_bytes);
    check("decode_kv_block, keys", t->name, decoded_keys, again_keys, positions * dim * 4);
    check("decode_kv_block, values", t->name, decoded_values, again_values, positions * padded * 4);

    const int64_t first = before / 64 * 64;
    const zn_kv_segment whole[3] = {
        {0, positions, false, ZN_F32, keys, values, positions * 16, NULL, NULL},
        {0, positions, false, ZN_F16, half_keys, half_values, positions * 16, NULL, NULL},
        {0, positions, false, ZN_I8, byte_keys, byte_values, positions * 16, scales, scales + positions},
    };
    // Codes, and what follows them in half precision.
    const zn_kv_segment mixed[2] = {
        {0, first, true, ZN_F16, codes, NULL, 0, NULL, NULL},
        {first, positions - first, false, ZN_F16, half_keys + first * dim, half_values + first * 16, positions * 16, NULL, NULL},
    };
    float *y = malloc((size_t)(rows * dim) * 4), *z = malloc((size_t)(rows * dim) * 4);
    const int64_t scratch_floats = zn_attention_scratch(rows, dim, padded) / 16 * 16 + 16;
    float *scratch = aligned_alloc(64, (size_t)(scratch_floats + 16) * 4);
    for (int kind = 0; kind < 4; kind++) {
        zn_attention job = {rows, group, before + 1, dim, padded, queries, group * dim, dim, y, group * dim, dim,
                            1.4426950408889634f / sqrtf((float)dim), kind < 3 ? whole + kind : mixed, kind < 3 ? 1 : 2};
        if (kind == 3 && first == 0) job.segments = mixed + 1, job.segment_count = 1;
        s->attend(&job, scratch);
        job.out = z;
        for (int64_t i = 0; i < 16; i++) scratch[scratch_floats + i] = 360;
        t->attend(&job, scratch);
        check("attend", t->name, y, z, rows * dim * 4);
        for (int64_t i = 0; i < 16; i++) {
            if (scratch[scratch_floats + i] != 360) failed++, printf("%s writes beyond its scratch memory\n", t->name);
        }
        // The last row: bf16 keeps 8 bits.
        const int64_t row = rows - 1;
        double most = -INFINITY, total = 0, *weight = malloc((size_t)positions * 8), *sum = calloc((size_t)dim, 8), worst = 0;
        for (int64_t key = 0; key < before + tokens; key++) {
            double score = 0;
            for (int64_t e = 0; e < dim; e++) {
                const int64_t at = key / 16 * 16 * dim + e * 16 + key % 16;
                const double of_key = kind == 0 ? keys[at] : kind == 2 ? (int8_t)byte_keys[at] * (double)scales[key]
                                      : kind == 1 || key >= first ? (double)(float)keys[at] : decoded_keys[at];
                score += queries[row * dim + e] * of_key;
            }
            weight[key] = score / sqrt((double)dim);
            most = weight[key] > most ? weight[key] : most;
        }
        for (int64_t key = 0; key < before + tokens; key++) {
            total += weight[key] = exp(weight[key] - most);
            for (int64_t e = 0; e < dim; e++) {
                const int64_t at = e / 16 * positions * 16 + key * 16 + e % 16;
                const double value = kind == 0 ? values[at] : kind == 2 ? (int8_t)byte_values[at] * (double)scales[positions + key]
                                     : kind == 1 || key >= first ? (double)values[at] : decoded_values[at];
                sum[e] += weight[key] * value;
            }
        }
        for (int64_t e = 0; e < dim; e++) worst = fmax(worst, fabs(sum[e] / total - z[row * dim + e]));
        if (!(worst < 0.05)) failed++, printf("%s: attention is off by %g, kind %d\n", t->name, worst, kind);
    }
}

int main(void) {
    int tables = 0;
    for (int isa = ZN_ISA_AVX2; isa <= ZN_ISA_NEON; isa++) {
        const zn_kernels *table = zn_kernels_for((zn_isa)isa);
        if (table == NULL) continue;
        tables++;
        printf("comparing %s with scalar\n", table->name);
        compare(zn_kernels_for(ZN_ISA_SCALAR), table);
        for (int64_t group = 1; group <= 3; group += 2) {
            compare_attention(zn_kernels_for(ZN_ISA_SCALAR), table, 64, group, 37, 630);
            compare_attention(zn_kernels_for(ZN_ISA_SCALAR), table, 128, group, 1, 700);
            compare_attention(zn_kernels_for(ZN_ISA_SCALAR), table, 128, group, 64, 320);
            compare_attention(zn_kernels_for(ZN_ISA_SCALAR), table, 20, group, 5, 0);
            compare_attention(zn_kernels_for(ZN_ISA_SCALAR), table, 7, group, 50, 64);
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || tables == 0;
}
