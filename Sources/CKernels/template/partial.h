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
