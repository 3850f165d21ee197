// The `fast` mode of integer panels: activations become signed bytes, ZN_INT8_BLOCK inputs at a time, and products become
// byte dot products. No signs to handle on the weights' side: codes stay unsigned and the zero point leaves the loop,
//   sum (q - z) x = - z sum x + sum q x.
// Integer sums are exact and what follows is done in a fixed order, so every table gives the same bits. The weights'
// scale and zero point come in once a span (up to ZN_INT8_SPAN inputs of one group); between, sums stay in registers.
//
// No sum is converted to a float: it starts as the bits of ZN_SUM_START = 1.5 * 2^23, whose last place is 1, and while it stays
// within 2^22 of that its bits are those of the float ZN_SUM_START + sum. What the start adds to a span is taken off
// beforehand, with the scales' sum. Codes count 2^(8 - bits) times, so a unit of a sum is 16 last places at 4 bits:
// what such large numbers round off is one to two hundredths of what rounding activations does (measured, 4096 inputs).
#define SUM_START_BITS 0x4B400000
#define CODE_FACTOR(bits) (1 << (8 - (bits)))

// Where no instruction adds byte products to sums of 32 bits, pairs of them are added in 16 bits first, as long as they fit:
// a part's, of codes of up to 4 bits (ZN_INT8_PART / 4 * 2 * 15 * 127 < 2^15). Integer sums do not mind the order.
#ifdef INT8_PAIRS
#define IN_PAIRS(bits) ((bits) < 8)
#else
#define IN_PAIRS(bits) false
ZN_INLINE v16i vi_pairs(v16i pairs, v16i codes, v16i x) { return pairs; }
ZN_INLINE v16i vi_add_pairs(v16i sum, v16i pairs, int bits) { return sum; }
#endif
ZN_INLINE v16i part_start(v16i sum, const int bits) { return IN_PAIRS(bits) ? vi_zero() : sum; }
ZN_INLINE v16i part_dot(v16i sum, v16i codes, v16i x, const int bits) {
    return IN_PAIRS(bits) ? vi_pairs(sum, codes, x) : vi_dot(sum, codes, x);
}
ZN_INLINE v16i part_end(v16i sum, v16i part_sum, const int bits) {
    return IN_PAIRS(bits) ? vi_add_pairs(sum, part_sum, bits) : part_sum;
}

ZN_INLINE int64_t span_length(int64_t at, int64_t k, int64_t group_size) {
    const int64_t group_end = (at / group_size + 1) * group_size, end = group_end < k ? group_end : k;
    return end - at < ZN_INT8_SPAN ? end - at : ZN_INT8_SPAN;
}

// The sums of a tile's registers, for one panel.
#define INT8_FEW_ROWS (INT8_ROWS * INT8_PANELS)
// With more rows unpacking codes pays: it is done once for all of them.
#define ZN_INT8_FEW_MOST (2 * INT8_FEW_ROWS)

// Neighbouring spans whose activations lie together, and for many rows their unpacked codes.
typedef struct {
    int64_t first, inputs;
    int64_t first_span, spans;
} int8_run;

// The run that begins with span first_span of all_spans, whose first input is `first`.
ZN_INLINE int8_run run_from(int64_t first, int64_t first_span, int64_t all_spans, int64_t rows, int64_t k,
                            int64_t group_size) {
    int8_run run = {first, k - first, first_span, all_spans - first_span};
    if (rows <= ZN_INT8_FEW_MOST || run.spans <= ZN_INT8_RUN) return run;
    run.spans = ZN_INT8_RUN;
    run.inputs = 0;
    for (int64_t s = 0; s < run.spans; s++) run.inputs += span_length(first + run.inputs, k, group_size);
    return run;
}

// Scale and zero point of a group as a span needs them: codes count CODE_FACTOR times, and 128 of the zero point is already
// taken off (quantize_rows), all of it where all outputs' is in the middle.
ZN_INLINE v16 span_scale(const uint16_t *scales, const int bits) {
    return v_mul(v_load_f16(scales), v_set(1.0f / CODE_FACTOR(bits)));
}
ZN_INLINE v16 span_zero(const uint8_t *zeros, const int bits, int64_t group) {
    return v_sub(v_mul(group_zeros(zeros, bits, group), v_set(CODE_FACTOR(bits))), v_set(128));
}
