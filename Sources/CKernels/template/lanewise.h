// For tables without instructions of their own for these: lane by lane, the same bits.

ZN_INLINE void v_to_bytes(int8_t *p, v16 v) {
    float lane[16];
    v_store(lane, v);
    for (int i = 0; i < 16; i++) p[i] = (int8_t)lane[i];
}
ZN_INLINE float v_highest(v16 v) {
    float lane[16];
    v_store(lane, v);
    float highest = lane[0];
    for (int i = 1; i < 16; i++) highest = lane[i] > highest ? lane[i] : highest;
    return highest;
}
