/* Bit planes decoded and multiplied without a detour through memory. Plain C99; the compiler vectorizes the loops.
 *
 * A row of `columns` codes lies in planes of 8, 4, 2 or 1 bits (see planes.py). Cut by the narrowest plane, a row
 * has 8/narrowest segments in which every plane is read at a constant shift. Columns are in planar order: position
 * member * groups + group, so the scales of a row are one contiguous vector.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 64 /* four registers of sixteen floats, one cache line of codes */

typedef struct {
    const uint8_t *planes[4];
    int32_t widths[4];
    int32_t count;
    int32_t columns;
    int32_t groups;
    int32_t offset;             /* subtracted from every code where there are no zero points */
    const uint8_t *zero_points; /* [rows, groups] or NULL */
    const float *scales;        /* [rows, groups] */
} weight_t;

/* The codes at `shift` in a run of bytes, put at `position` of codes whose lower bits are there already. Eight bytes are
 * shifted as one word: of single bytes C makes ints first, at a quarter of the speed. What crosses a byte is masked. */
static inline void unpack(const uint8_t *restrict in, int32_t shift, uint8_t mask, size_t length,
                          uint8_t *restrict out, int32_t position) {
    const uint64_t masks = mask * UINT64_C(0x0101010101010101);
    size_t j = 0;
    for (; j + sizeof masks <= length; j += sizeof masks) {
        uint64_t word, lower = 0;
        memcpy(&word, in + j, sizeof word);
        if (position > 0) memcpy(&lower, out + j, sizeof lower);
        word = lower | (((word >> shift) & masks) << position);
        memcpy(out + j, &word, sizeof word);
    }
    for (; j < length; j++)
        out[j] = (uint8_t)((position > 0 ? out[j] : 0) | (((in[j] >> shift) & mask) << position));
}

static void decode_codes(const weight_t *weight, size_t row, uint8_t *restrict codes) {
    int32_t narrowest = weight->widths[weight->count - 1];
    size_t length = (size_t)weight->columns * narrowest / 8;
    for (int32_t segment = 0; segment < 8 / narrowest; segment++) {
        uint8_t *restrict out = codes + (size_t)segment * length;
        int32_t position = 0;
        for (int32_t index = 0; index < weight->count; index++) {
            int32_t width = weight->widths[index], per_run = width / narrowest;
            size_t row_bytes = (size_t)weight->columns * width / 8;
            const uint8_t *restrict in =
                weight->planes[index] + row * row_bytes + (size_t)(segment % per_run) * length;
            int32_t shift = segment / per_run * width;
            uint8_t mask = (uint8_t)((1u << width) - 1u);
            unpack(in, shift, mask, length, out, position);
            position += width;
        }
    }
}

static void fill_zeros(const weight_t *weight, size_t row, float *restrict zeros) {
    for (int32_t group = 0; group < weight->groups; group++)
        zeros[group] = weight->zero_points ? (float)weight->zero_points[row * weight->groups + group]
                                           : (float)weight->offset;
}

/* out[row - start, :] = the row as numbers, columns in planar order. */
void srr_decode(const weight_t *weight, int64_t start, int64_t stop, float *out, uint8_t *codes, float *zeros) {
    size_t groups = (size_t)weight->groups, members = (size_t)weight->columns / groups;
    for (int64_t row = start; row < stop; row++) {
        const float *restrict scales = weight->scales + (size_t)row * groups;
        float *restrict target = out + (size_t)(row - start) * weight->columns;
        decode_codes(weight, (size_t)row, codes);
        fill_zeros(weight, (size_t)row, zeros);
        for (size_t member = 0; member < members; member++)
            for (size_t group = 0; group < groups; group++)
                target[member * groups + group] =
                    ((float)codes[member * groups + group] - zeros[group]) * scales[group];
    }
}

/* Sum over the members of `width` neighbouring groups, scaled. A constant width keeps the sums in registers. */
static inline float multiply_groups(const uint8_t *restrict codes, const float *restrict zeros,
                                    const float *restrict scales, const float *restrict input, size_t members,
                                    size_t groups, size_t width) {
    float sums[LANES] = {0.0f}, total = 0.0f;
    for (size_t member = 0; member < members; member++)
        for (size_t lane = 0; lane < width; lane++)
            sums[lane] += ((float)codes[member * groups + lane] - zeros[lane]) * input[member * groups + lane];
    for (size_t lane = 0; lane < width; lane++) total += sums[lane] * scales[lane];
    return total;
}

/* y[batch, row] = the product of a row with every x; x in planar order. */
void srr_multiply(const weight_t *weight, int64_t start, int64_t stop, const float *x, int64_t batch, float *y,
                  int64_t y_stride, uint8_t *codes, float *zeros) {
    size_t groups = (size_t)weight->groups, members = (size_t)weight->columns / groups;
    for (int64_t row = start; row < stop; row++) {
        const float *scales = weight->scales + (size_t)row * groups;
        decode_codes(weight, (size_t)row, codes);
        fill_zeros(weight, (size_t)row, zeros);
        for (int64_t sample = 0; sample < batch; sample++) {
            const float *input = x + (size_t)sample * weight->columns;
            float total = 0.0f;
            size_t group = 0;
            for (; group + LANES <= groups; group += LANES)
                total += multiply_groups(codes + group, zeros + group, scales + group, input + group, members, groups,
                                         LANES);
            if (group < groups)
                total += multiply_groups(codes + group, zeros + group, scales + group, input + group, members, groups,
                                         groups - group);
            y[sample * y_stride + row] = total;
        }
    }
}
