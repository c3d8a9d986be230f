/* Weight gradient of a 3x3 convolution of stride 1 in single precision, channels-last, by one thread.
 *
 *     dw[k, i, j, c] = sum over n, y, x of g[n, y, x, k] * input[n, y + i - pad, x + j - pad, c]
 *
 * Input and g are copied into panels of 6 and 16 channels, the input's with its border of zeros, so that each of the
 * nine shifts is an offset. `tile` keeps 6 x 16 sums in twelve registers of eight floats over all pixels of a picture.
 * Its vector types are those of GCC and Clang: eight lanes on any processor, fastest with 256-bit registers and FMA.
 */
#include <string.h>

enum { ROWS = 6, LANES = 8, COLUMNS = 16, TILE = ROWS * COLUMNS, SHIFTS = 9 };
typedef float Lanes __attribute__((vector_size(32), aligned(4)));

static void tile(const float *a, const float *b, float *sums, long height, long width, long pitch) {
    Lanes left[ROWS], right[ROWS];
    for (int i = 0; i < ROWS; i++) {
        left[i] = *(const Lanes *)(sums + i * COLUMNS);
        right[i] = *(const Lanes *)(sums + i * COLUMNS + LANES);
    }
    for (long y = 0; y < height; y++, a += pitch * ROWS)
        for (long x = 0; x < width; x++, b += COLUMNS) {
            const Lanes b_left = *(const Lanes *)b, b_right = *(const Lanes *)(b + LANES);
            const float *at = a + x * ROWS;
            for (int i = 0; i < ROWS; i++) {
                left[i] += at[i] * b_left;
                right[i] += at[i] * b_right;
            }
        }
    for (int i = 0; i < ROWS; i++) {
        *(Lanes *)(sums + i * COLUMNS) = left[i];
        *(Lanes *)(sums + i * COLUMNS + LANES) = right[i];
    }
}

/* One pixel's channels to its place in every panel; the last panel's missing channels stay 0. */
static inline void spread(const float *from, float *to, long channels, long panel, int width) {
    for (; channels >= width; channels -= width, from += width, to += panel)
        for (int j = 0; j < width; j++) to[j] = from[j];
    for (int j = 0; j < channels; j++) to[j] = from[j];
}

/* input [n, h, w, c], g [n, h + 2 pad - 2, w + 2 pad - 2, k], dw [k, 3, 3, c].
 * `sums` holds panels(k) * panels(c) * 9 * 96 floats; `packed`, for each of the `block` pictures at once,
 * panels(c) * (h + 2 pad) * (w + 2 pad) * 6 + panels(k) * (h + 2 pad - 2) * (w + 2 pad - 2) * 16. */
extern "C" void dd_wgrad(const float *input, const float *g, float *dw, float *sums, float *packed, long n, long h,
                         long w, long c, long k, long pad, long block) {
    const long pitch = w + 2 * pad, height = h + 2 * pad - 2, width = pitch - 2;
    const long c_panels = (c + ROWS - 1) / ROWS, k_panels = (k + COLUMNS - 1) / COLUMNS;
    const long c_panel = (height + 2) * pitch * ROWS, k_panel = height * width * COLUMNS;
    float *inputs = packed, *gradients = packed + block * c_panels * c_panel;
    memset(packed, 0, sizeof(float) * block * (c_panels * c_panel + k_panels * k_panel));
    memset(sums, 0, sizeof(float) * k_panels * c_panels * SHIFTS * TILE);
    for (long first = 0; first < n; first += block) {
        const long held = n - first < block ? n - first : block;
        for (long m = 0; m < held; m++) {
            const float *from = input + (first + m) * h * w * c;
            float *to = inputs + m * c_panels * c_panel;
            for (long y = 0; y < h; y++)
                for (long x = 0; x < w; x++, from += c)
                    spread(from, to + ((y + pad) * pitch + x + pad) * ROWS, c, c_panel, ROWS);
            from = g + (first + m) * height * width * k;
            to = gradients + m * k_panels * k_panel;
            for (long p = 0; p < height * width; p++, from += k) spread(from, to + p * COLUMNS, k, k_panel, COLUMNS);
        }
        for (long q = 0; q < k_panels; q++)
            for (long r = 0; r < c_panels; r++)
                for (long m = 0; m < held; m++)
                    for (long s = 0; s < SHIFTS; s++)
                        tile(inputs + (m * c_panels + r) * c_panel + ((s / 3) * pitch + s % 3) * ROWS,
                             gradients + (m * k_panels + q) * k_panel,
                             sums + ((q * c_panels + r) * SHIFTS + s) * TILE, height, width, pitch);
    }
    for (long q = 0; q < k; q++)
        for (long s = 0; s < SHIFTS; s++)
            for (long r = 0; r < c; r++)
                dw[(q * SHIFTS + s) * c + r] = sums[(((q / COLUMNS) * c_panels + r / ROWS) * SHIFTS + s) * TILE +
                                                    (r % ROWS) * COLUMNS + q % COLUMNS];
}
