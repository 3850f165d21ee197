// Partial vectors of any type.
#include "partial.h"

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
