// Partial vectors: the first n < 16 elements of a row.

ZN_INLINE v16 load_n(const float *p, int64_t n, float fill) {
    float buffer[16];
    for (int i = 0; i < 16; i++) buffer[i] = fill;
    memcpy(buffer, p, (size_t)n * sizeof(float));
    return v_load(buffer);
}

ZN_INLINE void store_n(float *p, v16 v, int64_t n) {
    float buffer[16];
    v_store(buffer, v);
    memcpy(p, buffer, (size_t)n * sizeof(float));
}

ZN_INLINE v16 load_typed(const void *p, zn_float_type type, int64_t index) {
    if (type == ZN_F32) return v_load((const float *)p + index);
    if (type == ZN_F16) return v_load_f16((const uint16_t *)p + index);
    if (type == ZN_I8) return v_load_i8((const int8_t *)p + index);
    return v_load_bf16((const uint16_t *)p + index);
}

ZN_INLINE v16 load_typed_n(const void *p, zn_float_type type, int64_t index, int64_t n) {
    if (type == ZN_F32) return load_n((const float *)p + index, n, 0);
    if (type == ZN_I8) {
        int8_t bytes[16] = {0};
        memcpy(bytes, (const int8_t *)p + index, (size_t)n);
        return v_load_i8(bytes);
    }
    uint16_t buffer[16] = {0};
    memcpy(buffer, (const uint16_t *)p + index, (size_t)n * sizeof(uint16_t));
    return type == ZN_F16 ? v_load_f16(buffer) : v_load_bf16(buffer);
}

// A whole number that fits a signed byte, never -128.
ZN_INLINE v16 rounded_to_byte(v16 v) { return v_min(v_max(v_round(v), v_set(-127)), v_set(127)); }
