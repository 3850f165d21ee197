// Element-wise kernels and the horizontal sums in their fixed order.

#define EACH_VECTOR(n, full, partial)                                                                                  \
    do {                                                                                                               \
        int64_t at = 0;                                                                                                \
        for (; at + 16 <= (n); at += 16) { full; }                                                                     \
        const int64_t rest = (n) - at;                                                                                 \
        if (rest > 0) { partial; }                                                                                     \
    } while (0)

// exp(x): x = n ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts (Cody and Waite); e^r by a polynomial of degree 6
// (Cephes expf, error below 1 ulp). Below -87.33 the result is 0, above 88.37 it stays at e^88.37.
ZN_INLINE v16 v_exp(v16 x) {
    const v16 clamped = v_min(v_max(x, v_set(-87.33f)), v_set(88.37f));
    const v16 n = v_round(v_mul(clamped, v_set(1.44269504088896341f)));
    v16 r = v_fnma(n, v_set(0.693359375f), clamped);
    r = v_fnma(n, v_set(-2.12194440e-4f), r);
    v16 p = v_set(1.9875691500e-4f);
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    p = v_fma(p, v_mul(r, r), v_add(r, v_set(1.0f)));
    // Too small: 0. NaN: itself (max and min have dropped it).
    return v_keep_nan(x, v_zero_below(x, v_set(-87.33f), v_scale_by_power(p, n)));
}

static void widen(float *y, const void *x, zn_float_type type, int64_t n) {
    EACH_VECTOR(n, v_store(y + at, load_typed(x, type, at)), store_n(y + at, load_typed_n(x, type, at, rest), rest));
}

static void narrow(void *y, const float *x, zn_float_type type, int64_t n) {
    if (type == ZN_F32) {
        memmove(y, x, (size_t)n * sizeof(float));
        return;
    }
    uint16_t *out = y;
    uint16_t buffer[16];
    if (type == ZN_F16) {
        EACH_VECTOR(n, v_store_f16(out + at, v_load(x + at)), {
            v_store_f16(buffer, load_n(x + at, rest, 0));
            memcpy(out + at, buffer, (size_t)rest * sizeof(uint16_t));
        });
    } else {
        EACH_VECTOR(n, v_store_bf16(out + at, v_load(x + at)), {
            v_store_bf16(buffer, load_n(x + at, rest, 0));
            memcpy(out + at, buffer, (size_t)rest * sizeof(uint16_t));
        });
    }
}

static void rms_norm(float *y, const float *x, const float *weight, int64_t n, float eps) {
    v16 sum = v_set(0);
    EACH_VECTOR(n, sum = v_fma(v_load(x + at), v_load(x + at), sum), {
        const v16 tail = load_n(x + at, rest, 0);
        sum = v_fma(tail, tail, sum);
    });
    float lane[16];
    v_store(lane, sum);
    const float mean = zn_lane_sum(lane) / (float)n;
    const float inverse = 1.0f / sqrtf(mean + eps);
    const v16 factor = v_set(inverse);
    EACH_VECTOR(n, v_store(y + at, v_mul(v_mul(v_load(x + at), factor), v_load(weight + at))),
                store_n(y + at, v_mul(v_mul(load_n(x + at, rest, 0), factor), load_n(weight + at, rest, 0)), rest));
}

// The sum is kept in y before it is normalized; y may be x or residual.
static void layer_norm(float *y, const float *x, const float *added, const float *residual, const float *weight,
                       const float *bias, int64_t n, float eps) {
    v16 sum = v_set(0), value;
    EACH_VECTOR(
        n,
        {
            value = v_load(x + at);
            if (added) value = v_add(value, v_load(added + at));
            if (residual) value = v_add(value, v_load(residual + at));
            v_store(y + at, value);
            sum = v_add(sum, value);
        },
        {
            value = load_n(x + at, rest, 0);
            if (added) value = v_add(value, load_n(added + at, rest, 0));
            if (residual) value = v_add(value, load_n(residual + at, rest, 0));
            store_n(y + at, value, rest);
            sum = v_add(sum, value);
        });
    float lane[16];
    v_store(lane, sum);
    const float mean = zn_lane_sum(lane) / (float)n;
    const v16 shift = v_set(mean);
    v16 squares = v_set(0);
    EACH_VECTOR(
        n,
        {
            value = v_sub(v_load(y + at), shift);
            squares = v_fma(value, value, squares);
        },
        {
            value = v_sub(load_n(y + at, rest, mean), shift);
            squares = v_fma(value, value, squares);
        });
    v_store(lane, squares);
    const v16 factor = v_set(1.0f / sqrtf(zn_lane_sum(lane) / (float)n + eps));
    EACH_VECTOR(n,
                v_store(y + at, v_fma(v_mul(v_sub(v_load(y + at), shift), factor), v_load(weight + at), v_load(bias + at))),
                store_n(y + at,
                        v_fma(v_mul(v_sub(load_n(y + at, rest, 0), shift), factor), load_n(weight + at, rest, 0),
                              load_n(bias + at, rest, 0)),
                        rest));
}

// x / 2 * (1 + erf(x / sqrt 2)). With z = |x| / sqrt 2 and t = 1 / (1 + p z), erfc(z) = t P(t) e^(-z^2) with an absolute error
// below 1.5e-7 (Abramowitz and Stegun 7.1.26); so the result is x - x / 2 * erfc(z) for x >= 0 and x / 2 * erfc(z) below.
ZN_INLINE v16 v_gelu(v16 x) {
    const v16 z = v_mul(v_max(x, v_sub(v_set(0), x)), v_set(0.70710678118654752f));
    const v16 t = v_div(v_set(1.0f), v_fma(z, v_set(0.3275911f), v_set(1.0f)));
    v16 p = v_set(1.061405429f);
    p = v_fma(p, t, v_set(-1.453152027f));
    p = v_fma(p, t, v_set(1.421413741f));
    p = v_fma(p, t, v_set(-0.284496736f));
    p = v_fma(p, t, v_set(0.254829592f));
    const v16 erfc = v_mul(v_mul(p, t), v_exp(v_mul(v_sub(v_set(0), z), z)));
    // |x| - |x| / 2 erfc above zero and -|x| / 2 erfc below are max(x, 0) - |x| / 2 erfc.
    const v16 part = v_mul(v_mul(z, v_set(0.70710678118654752f)), erfc);
    return v_keep_nan(x, v_sub(v_max(x, v_set(0)), part));
}

// x / 2 * (1 + tanh(u)), u = sqrt(2 / pi) (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
ZN_INLINE v16 v_gelu_tanh(v16 x) {
    const v16 inner = v_fma(v_mul(v_mul(x, x), x), v_set(0.044715f), x);
    const v16 e = v_exp(v_mul(inner, v_set(-1.5957691216057308f)));
    return v_keep_nan(x, v_div(x, v_add(v_set(1.0f), e)));
}

ZN_INLINE v16 v_relu(v16 x) { return v_keep_nan(x, v_max(x, v_set(0))); }

#define ACTIVATE(function)                                                                                             \
    if (bias) {                                                                                                        \
        EACH_VECTOR(n, v_store(x + at, function(v_add(v_load(x + at), v_load(bias + at)))),                            \
                    store_n(x + at, function(v_add(load_n(x + at, rest, 0), load_n(bias + at, rest, 0))), rest));      \
    } else {                                                                                                           \
        EACH_VECTOR(n, v_store(x + at, function(v_load(x + at))), store_n(x + at, function(load_n(x + at, rest, 0)), rest)); \
    }

static void gelu(float *x, const float *bias, int64_t n) { ACTIVATE(v_gelu) }
static void gelu_tanh(float *x, const float *bias, int64_t n) { ACTIVATE(v_gelu_tanh) }
static void relu(float *x, const float *bias, int64_t n) { ACTIVATE(v_relu) }

// Sixteen softmaxes beside each other, one a lane.
static void softmax_panel(float *panel, int64_t n) {
    v16 most = v_set(-INFINITY), sum = v_set(0);
    for (int64_t i = 0; i < n; i++) most = v_max(most, v_load(panel + i * 16));
    for (int64_t i = 0; i < n; i++) {
        const v16 e = v_exp(v_sub(v_load(panel + i * 16), most));
        v_store(panel + i * 16, e);
        sum = v_add(sum, e);
    }
    const v16 factor = v_div(v_set(1.0f), sum);
    for (int64_t i = 0; i < n; i++) v_store(panel + i * 16, v_mul(v_load(panel + i * 16), factor));
}

// tanh x = sign(x) (1 - 2 / (e^(2 |x|) + 1)); from |x| = 9 on it is 1. Small |x|, where that would lose digits:
// x - x^3 / 3 + 2 x^5 / 15.
ZN_INLINE v16 v_tanh(v16 x) {
    const v16 size = v_max(x, v_sub(v_set(0), x));
    const v16 e = v_exp(v_mul(v_min(size, v_set(9)), v_set(2)));
    const v16 large = v_sub(v_set(1), v_div(v_set(2), v_add(e, v_set(1))));
    // Where the series is not used it must still be finite.
    const v16 square = v_min(v_mul(x, x), v_set(1));
    const v16 series = v_fma(v_fma(square, v_set(0.133333333f), v_set(-0.333333333f)), square, v_set(1));
    const v16 ratio = v_div(large, v_max(size, v_set(1e-30f)));
    const v16 chosen = v_zero_below(size, v_set(0.0625f), ratio);
    const v16 small = v_sub(series, v_zero_below(size, v_set(0.0625f), series));
    return v_keep_nan(x, v_mul(x, v_add(chosen, small)));
}

static void hyperbolic_tangent(float *x, int64_t n) {
    EACH_VECTOR(n, v_store(x + at, v_tanh(v_load(x + at))), store_n(x + at, v_tanh(load_n(x + at, rest, 0)), rest));
}

static void add(float *y, const float *x, int64_t n) {
    EACH_VECTOR(n, v_store(y + at, v_add(v_load(y + at), v_load(x + at))),
                store_n(y + at, v_add(load_n(y + at, rest, 0), load_n(x + at, rest, 0)), rest));
}

static void multiply(float *y, const float *x, int64_t n) {
    EACH_VECTOR(n, v_store(y + at, v_mul(v_load(y + at), v_load(x + at))),
                store_n(y + at, v_mul(load_n(y + at, rest, 0), load_n(x + at, rest, 0)), rest));
}

static float quantize_vector(int8_t *q, const float *x, int64_t n) {
    v16 most = v_set(0);
    EACH_VECTOR(n, most = v_max(most, v_max(v_load(x + at), v_sub(v_set(0), v_load(x + at)))), {
        const v16 tail = load_n(x + at, rest, 0);
        most = v_max(most, v_max(tail, v_sub(v_set(0), tail)));
    });
    const float highest = v_highest(most);
    const v16 factor = v_set(highest > 0 ? 127.0f / highest : 0);
    int8_t bytes[16];
    EACH_VECTOR(n, v_to_bytes(q + at, rounded_to_byte(v_mul(v_load(x + at), factor))), {
        v_to_bytes(bytes, rounded_to_byte(v_mul(load_n(x + at, rest, 0), factor)));
        memcpy(q + at, bytes, (size_t)rest);
    });
    return highest / 127.0f;
}

ZN_INLINE v16 silu_product(v16 gate, v16 up) {
    const v16 one = v_set(1.0f);
    return v_mul(v_div(gate, v_add(one, v_exp(v_sub(v_set(0), gate)))), up);
}

static void silu_multiply(float *y, const float *gate, const float *up, int64_t n) {
    EACH_VECTOR(n, v_store(y + at, silu_product(v_load(gate + at), v_load(up + at))),
                store_n(y + at, silu_product(load_n(gate + at, rest, 0), load_n(up + at, rest, 0)), rest));
}

// y = silu(gate) * up: d silu = s (1 + gate (1 - s)) with s = 1 / (1 + e^-gate).
ZN_INLINE void silu_gradient(v16 *gate, v16 *up, v16 dy) {
    const v16 one = v_set(1.0f);
    const v16 sigmoid = v_div(one, v_add(one, v_exp(v_sub(v_set(0), *gate))));
    const v16 slope = v_mul(sigmoid, v_fma(*gate, v_sub(one, sigmoid), one));
    const v16 of_gate = v_mul(v_mul(dy, *up), slope);
    *up = v_mul(dy, v_mul(*gate, sigmoid));
    *gate = of_gate;
}

static void silu_multiply_gradient(float *gate, float *up, const float *dy, int64_t n) {
    v16 g, u;
    EACH_VECTOR(
        n,
        {
            g = v_load(gate + at);
            u = v_load(up + at);
            silu_gradient(&g, &u, v_load(dy + at));
            v_store(gate + at, g);
            v_store(up + at, u);
        },
        {
            g = load_n(gate + at, rest, 0);
            u = load_n(up + at, rest, 0);
            silu_gradient(&g, &u, load_n(dy + at, rest, 0));
            store_n(gate + at, g, rest);
            store_n(up + at, u, rest);
        });
}

// With r = 1 / sqrt(mean(x^2) + eps) and z = weight * dy: dx += r z - x r^3 sum(z x) / n.
static void rms_norm_gradient(float *dx, const float *dy, const float *x, const float *weight, int64_t n, float eps) {
    v16 squares = v_set(0), products = v_set(0);
    EACH_VECTOR(
        n,
        {
            const v16 value = v_load(x + at);
            squares = v_fma(value, value, squares);
            products = v_fma(v_mul(v_load(weight + at), v_load(dy + at)), value, products);
        },
        {
            const v16 value = load_n(x + at, rest, 0);
            squares = v_fma(value, value, squares);
            products = v_fma(v_mul(load_n(weight + at, rest, 0), load_n(dy + at, rest, 0)), value, products);
        });
    float lane[16];
    v_store(lane, squares);
    const float inverse = 1.0f / sqrtf(zn_lane_sum(lane) / (float)n + eps);
    v_store(lane, products);
    const float along = zn_lane_sum(lane) / (float)n * inverse * inverse * inverse;
    const v16 factor = v_set(inverse), taken = v_set(along);
    EACH_VECTOR(
        n,
        {
            const v16 z = v_mul(v_load(weight + at), v_load(dy + at));
            v_store(dx + at, v_fnma(taken, v_load(x + at), v_fma(factor, z, v_load(dx + at))));
        },
        {
            const v16 z = v_mul(load_n(weight + at, rest, 0), load_n(dy + at, rest, 0));
            store_n(dx + at, v_fnma(taken, load_n(x + at, rest, 0), v_fma(factor, z, load_n(dx + at, rest, 0))), rest);
        });
}

// With r = 1 / sqrt(var(x) + eps), h = (x - mean(x)) r and z = weight * dy: dx += r (z - mean(z) - h mean(z h)).
static void layer_norm_gradient(float *dx, const float *dy, const float *x, const float *weight, int64_t n, float eps) {
    v16 sum = v_set(0);
    EACH_VECTOR(n, sum = v_add(sum, v_load(x + at)), sum = v_add(sum, load_n(x + at, rest, 0)));
    float lane[16];
    v_store(lane, sum);
    const float mean = zn_lane_sum(lane) / (float)n;
    const v16 shift = v_set(mean);
    v16 squares = v_set(0), products = v_set(0), gradients = v_set(0);
    EACH_VECTOR(
        n,
        {
            const v16 value = v_sub(v_load(x + at), shift);
            const v16 z = v_mul(v_load(weight + at), v_load(dy + at));
            squares = v_fma(value, value, squares);
            products = v_fma(z, value, products);
            gradients = v_add(gradients, z);
        },
        {
            const v16 value = v_sub(load_n(x + at, rest, mean), shift);
            const v16 z = v_mul(load_n(weight + at, rest, 0), load_n(dy + at, rest, 0));
            squares = v_fma(value, value, squares);
            products = v_fma(z, value, products);
            gradients = v_add(gradients, z);
        });
    v_store(lane, squares);
    const float inverse = 1.0f / sqrtf(zn_lane_sum(lane) / (float)n + eps);
    v_store(lane, products);
    const float along = zn_lane_sum(lane) / (float)n * inverse * inverse * inverse;
    v_store(lane, gradients);
    const v16 factor = v_set(inverse), taken = v_set(along), middle = v_set(zn_lane_sum(lane) / (float)n);
    EACH_VECTOR(
        n,
        {
            const v16 z = v_sub(v_mul(v_load(weight + at), v_load(dy + at)), middle);
            const v16 value = v_sub(v_load(x + at), shift);
            v_store(dx + at, v_fnma(taken, value, v_fma(factor, z, v_load(dx + at))));
        },
        {
            const v16 z = v_sub(v_mul(load_n(weight + at, rest, 0), load_n(dy + at, rest, 0)), middle);
            const v16 value = v_sub(load_n(x + at, rest, mean), shift);
            store_n(dx + at, v_fnma(taken, value, v_fma(factor, z, load_n(dx + at, rest, 0))), rest);
        });
}

// The slope P(x) + x p(x) of x P(x), P and p being the distribution and the density of the normal distribution; as v_gelu has it,
// P is 1 - erfc(z) / 2 for x >= 0 and erfc(z) / 2 below.
ZN_INLINE v16 v_gelu_slope(v16 x) {
    const v16 z = v_mul(v_max(x, v_sub(v_set(0), x)), v_set(0.70710678118654752f));
    const v16 t = v_div(v_set(1.0f), v_fma(z, v_set(0.3275911f), v_set(1.0f)));
    v16 p = v_set(1.061405429f);
    p = v_fma(p, t, v_set(-1.453152027f));
    p = v_fma(p, t, v_set(1.421413741f));
    p = v_fma(p, t, v_set(-0.284496736f));
    p = v_fma(p, t, v_set(0.254829592f));
    const v16 e = v_exp(v_mul(v_sub(v_set(0), z), z));
    const v16 half = v_mul(v_mul(v_mul(p, t), e), v_set(0.5f));
    const v16 below = v_add(half, v_zero_below(x, v_set(0), v_sub(v_set(1.0f), v_add(half, half))));
    return v_keep_nan(x, v_fma(v_mul(x, e), v_set(0.39894228040143268f), below));
}

// With s = 1 / (1 + e^(-2u)): the slope of x s is s + x s (1 - s) 2u'. From |x| = 10 on the second part is 0, and x^2 may overflow.
ZN_INLINE v16 v_gelu_tanh_slope(v16 x) {
    const v16 near = v_min(v_max(x, v_set(-10)), v_set(10));
    const v16 square = v_mul(near, near);
    const v16 inner = v_fma(v_mul(square, near), v_set(0.044715f), near);
    const v16 one = v_set(1.0f);
    const v16 s = v_div(one, v_add(one, v_exp(v_mul(inner, v_set(-1.5957691216057308f)))));
    const v16 steepness = v_fma(square, v_set(0.21406445f), v_set(1.5957691216057308f));
    return v_keep_nan(x, v_fma(v_mul(v_mul(near, s), v_sub(one, s)), steepness, s));
}

// The smallest number above 0, so that the slope at 0 is 0.
ZN_INLINE v16 v_relu_slope(v16 x) { return v_keep_nan(x, v_zero_below(x, v_set(0x1p-149f), v_set(1.0f))); }

#define DIFFERENTIATE(slope)                                                                                           \
    if (bias) {                                                                                                        \
        EACH_VECTOR(n, v_store(x + at, v_mul(v_load(dy + at), slope(v_add(v_load(x + at), v_load(bias + at))))),       \
                    store_n(x + at,                                                                                    \
                            v_mul(load_n(dy + at, rest, 0), slope(v_add(load_n(x + at, rest, 0), load_n(bias + at, rest, 0)))), \
                            rest));                                                                                    \
    } else {                                                                                                           \
        EACH_VECTOR(n, v_store(x + at, v_mul(v_load(dy + at), slope(v_load(x + at)))),                                 \
                    store_n(x + at, v_mul(load_n(dy + at, rest, 0), slope(load_n(x + at, rest, 0))), rest));           \
    }

static void gelu_gradient(float *x, const float *bias, const float *dy, int64_t n) { DIFFERENTIATE(v_gelu_slope) }
static void gelu_tanh_gradient(float *x, const float *bias, const float *dy, int64_t n) { DIFFERENTIATE(v_gelu_tanh_slope) }
static void relu_gradient(float *x, const float *bias, const float *dy, int64_t n) { DIFFERENTIATE(v_relu_slope) }

static void softmax_gradient(float *dp, const float *p, float mean, float factor, int64_t n) {
    const v16 shift = v_set(mean), by = v_set(factor);
    EACH_VECTOR(n, v_store(dp + at, v_mul(v_mul(v_load(p + at), v_sub(v_load(dp + at), shift)), by)),
                store_n(dp + at, v_mul(v_mul(load_n(p + at, rest, 0), v_sub(load_n(dp + at, rest, 0), shift)), by), rest));
}

static float dot(const float *x, const float *y, int64_t n) {
    v16 sum = v_set(0);
    EACH_VECTOR(n, sum = v_fma(v_load(x + at), v_load(y + at), sum),
                sum = v_fma(load_n(x + at, rest, 0), load_n(y + at, rest, 0), sum));
    float lane[16];
    v_store(lane, sum);
    return zn_lane_sum(lane);
}

static void rotate(float *head, const float *cosines, const float *sines, int64_t rotary) {
    const int64_t half = rotary / 2;
    float *upper = head + half;
    for (int64_t at = 0; at < half; at += 16) {
        const int64_t count = half - at < 16 ? half - at : 16;
        const v16 a = load_n(head + at, count, 0), b = load_n(upper + at, count, 0);
        const v16 c = load_n(cosines + at, count, 0), s = load_n(sines + at, count, 0);
        store_n(head + at, v_fnma(b, s, v_mul(a, c)), count);
        store_n(upper + at, v_fma(a, s, v_mul(b, c)), count);
    }
}

static float maximum(const float *x, int64_t n) {
    v16 most = v_set(-INFINITY);
    EACH_VECTOR(n, most = v_max(most, v_load(x + at)), most = v_max(most, load_n(x + at, rest, -INFINITY)));
    float lane[16], result = -INFINITY;
    v_store(lane, most);
    for (int i = 0; i < 16; i++) result = lane[i] > result ? lane[i] : result;
    return result;
}

static float exp_sum(float *x, float shift, int64_t n) {
    const v16 offset = v_set(shift);
    v16 sum = v_set(0);
    EACH_VECTOR(
        n,
        {
            const v16 e = v_exp(v_sub(v_load(x + at), offset));
            v_store(x + at, e);
            sum = v_add(sum, e);
        },
        {
            // Lanes beyond the end take -infinity, whose exponential is 0.
            const v16 e = v_exp(v_sub(load_n(x + at, rest, -INFINITY), offset));
            store_n(x + at, e, rest);
            sum = v_add(sum, e);
        });
    float lane[16];
    v_store(lane, sum);
    return zn_lane_sum(lane);
}

static double sum_exp(const float *x, float shift, int64_t n) {
    const v16 offset = v_set(shift);
    double total[16] = {0};
    float lane[16];
    EACH_VECTOR(
        n,
        {
            v_store(lane, v_exp(v_sub(v_load(x + at), offset)));
            for (int i = 0; i < 16; i++) total[i] += (double)lane[i];
        },
        {
            v_store(lane, v_exp(v_sub(load_n(x + at, rest, -INFINITY), offset)));
            for (int i = 0; i < 16; i++) total[i] += (double)lane[i];
        });
    return zn_lane_sum_double(total);
}

static void scale(float *x, float factor, int64_t n) {
    const v16 by = v_set(factor);
    EACH_VECTOR(n, v_store(x + at, v_mul(v_load(x + at), by)), store_n(x + at, v_mul(load_n(x + at, rest, 0), by), rest));
}

static double burn(int64_t rounds, float *result) {
    v16 sums[TILE_ROWS][TILE_PANELS], left[2], right[TILE_PANELS];
    // Values the compiler cannot know, or it would do part of the work beforehand.
    const volatile float seed = 1e-3f;
    left[0] = v_set(seed), left[1] = v_set(-seed);
#pragma clang loop unroll(full)
    for (int p = 0; p < TILE_PANELS; p++) right[p] = v_set(seed * (float)(p + 2));
#pragma clang loop unroll(full)
    for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < TILE_PANELS; p++) sums[i][p] = v_set(seed * (float)(i * TILE_PANELS + p));
    }
    for (int64_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < TILE_PANELS; p++) sums[i][p] = v_fma(left[i % 2], right[p], sums[i][p]);
        }
    }
    v16 total = v_set(0);
    for (int i = 0; i < TILE_ROWS; i++) {
        for (int p = 0; p < TILE_PANELS; p++) total = v_add(total, sums[i][p]);
    }
    v_store(result, total);
    return (double)rounds * TILE_ROWS * TILE_PANELS * 16 * 2;
}

static double burn_pairs(int64_t rounds, float *result) {
#ifdef NATIVE_BURN_PAIRS
    const double operations = NATIVE_BURN_PAIRS(rounds, result);
    if (operations > 0) return operations;
#endif
    return burn(rounds, result);
}
