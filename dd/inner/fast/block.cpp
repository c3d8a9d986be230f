/* The pointwise parts of a ConvNet block and their derivatives, channels-last; `kernels.py` has the equations and is
 * the twin of every function here.
 *
 * A worker takes one picture and as many channels as a register holds: what it reads again lies in the cache. Sums
 * are taken row by row. Maps are [n, h, w, c] with h and w even, their halves [n, h/2, w/2, c], statistics [n, c].
 * The vector types are those of GCC and Clang.
 */
#include <cmath>
#include <cstring>

#ifdef __AVX512F__
enum { LINE = 64 };
#else
enum { LINE = 32 };
#endif
template <class T> struct Of;
template <> struct Of<float> {
    typedef float Vector __attribute__((vector_size(LINE)));
    typedef int Mask __attribute__((vector_size(LINE)));
};
template <> struct Of<double> {
    typedef double Vector __attribute__((vector_size(LINE)));
    typedef long long Mask __attribute__((vector_size(LINE)));
};

/* Channels of one picture's maps: a register full of them, or, not WHOLE, the last ones. */
template <class T, bool WHOLE> struct Part {
    typedef typename Of<T>::Vector V;
    typedef typename Of<T>::Mask M;
    enum { LANES = LINE / sizeof(T) };
    long n, c0, h, w, c, held;
    T pixels;

    Part(long n, long panel, long h, long w, long c)
        : n(n), c0(panel * LANES), h(h), w(w), c(c), held(c - c0 < LANES ? c - c0 : LANES), pixels(T(h * w)) {}

    V load(const T *from) const {
        V v = {};
        if (WHOLE)
            memcpy(&v, from, LINE);
        else
            memcpy(&v, from, held * sizeof(T));
        return v;
    }
    void store(T *to, const V &v) const {
        if (WHOLE)
            memcpy(to, &v, LINE);
        else
            memcpy(to, &v, held * sizeof(T));
    }
    V weight(const T *of) const { return load(of + c0); }
    V statistic(const T *of) const { return load(of + n * c + c0); }
    void keep(T *of, const V &v) const { store(of + n * c + c0, v); }
    long full(long y, long x) const { return ((n * h + y) * w + x) * c + c0; }
    long half(long y, long x) const { return ((n * (h / 2) + y / 2) * (w / 2) + x / 2) * c + c0; }
    /* v, or 0 where y is 0 or less; what is not a number stays so. */
    static V where_on(const V &y, const V &v) { return (V)((M)v & ~(M)(y <= V{})); }
};

template <class T> struct Forward {
    const T *z, *gamma, *beta;
    T eps;
    T *out, *mean, *rstd;

    template <bool WHOLE> void operator()(const Part<T, WHOLE> &p) const {
        typedef typename Part<T, WHOLE>::V V;
        V sum = {}, square = {};
        for (long y = 0; y < p.h; y++) {
            V row = {};
            for (long x = 0; x < p.w; x++) row += p.load(z + p.full(y, x));
            sum += row;
        }
        const V m = sum / p.pixels;
        for (long y = 0; y < p.h; y++) {
            V row = {};
            for (long x = 0; x < p.w; x++) {
                const V d = p.load(z + p.full(y, x)) - m;
                row += d * d;
            }
            square += row;
        }
        V r = square / p.pixels + eps;
        for (int i = 0; i < Part<T, WHOLE>::LANES; i++) r[i] = T(1) / std::sqrt(r[i]);
        const V a = r * p.weight(gamma), b = p.weight(beta);
        for (long y = 0; y < p.h; y += 2)
            for (long x = 0; x < p.w; x += 2) {
                V sums = {};
                for (long k = 0; k < 4; k++) {
                    const V on = (p.load(z + p.full(y + k / 2, x + k % 2)) - m) * a + b;
                    sums += p.where_on(on, on);
                }
                p.store(out + p.half(y, x), sums * T(0.25));
            }
        p.keep(mean, m);
        p.keep(rstd, r);
    }
};

template <class T> struct Backward {
    const T *z, *mean, *rstd, *gamma, *beta, *g_out;
    T *g_z, *d_gamma, *d_beta;

    template <bool WHOLE> void operator()(const Part<T, WHOLE> &p) const {
        typedef typename Part<T, WHOLE>::V V;
        const V m = p.statistic(mean), r = p.statistic(rstd), a = r * p.weight(gamma), b = p.weight(beta);
        V sum = {}, along = {};
        for (long y = 0; y < p.h; y += 2) {
            V row = {}, row_along = {};
            for (long x = 0; x < p.w; x += 2) {
                const V g = p.load(g_out + p.half(y, x)) * T(0.25);
                for (long k = 0; k < 4; k++) {
                    const V d = p.load(z + p.full(y + k / 2, x + k % 2)) - m;
                    const V g_y = p.where_on(d * a + b, g);
                    row += g_y;
                    row_along += g_y * d;
                }
            }
            sum += row;
            along += row_along;
        }
        const V even = sum / p.pixels, tilt = along * r * r / p.pixels;
        for (long y = 0; y < p.h; y += 2)
            for (long x = 0; x < p.w; x += 2) {
                const V g = p.load(g_out + p.half(y, x)) * T(0.25);
                for (long k = 0; k < 4; k++) {
                    const long at = p.full(y + k / 2, x + k % 2);
                    const V d = p.load(z + at) - m;
                    p.store(g_z + at, a * (p.where_on(d * a + b, g) - even - d * tilt));
                }
            }
        p.keep(d_gamma, along * r);
        p.keep(d_beta, sum);
    }
};

template <class T> struct TangentForward {
    const T *z, *zd, *mean, *rstd, *gamma, *beta, *gamma_d, *beta_d;
    T *out_d, *mean_d, *along;

    template <bool WHOLE> void operator()(const Part<T, WHOLE> &p) const {
        typedef typename Part<T, WHOLE>::V V;
        const V m = p.statistic(mean), r = p.statistic(rstd), a = r * p.weight(gamma), b = p.weight(beta);
        V sum = {}, product = {};
        for (long y = 0; y < p.h; y++) {
            V row = {}, row_product = {};
            for (long x = 0; x < p.w; x++) {
                const V d = p.load(z + p.full(y, x)) - m, dot = p.load(zd + p.full(y, x));
                row += dot;
                row_product += d * dot;
            }
            sum += row;
            product += row_product;
        }
        const V md = sum / p.pixels, q = product * r / p.pixels;
        const V slope = r * (p.weight(gamma_d) - p.weight(gamma) * q * r), shift = p.weight(beta_d);
        for (long y = 0; y < p.h; y += 2)
            for (long x = 0; x < p.w; x += 2) {
                V sums = {};
                for (long k = 0; k < 4; k++) {
                    const long at = p.full(y + k / 2, x + k % 2);
                    const V d = p.load(z + at) - m;
                    sums += p.where_on(d * a + b, a * (p.load(zd + at) - md) + d * slope + shift);
                }
                p.store(out_d + p.half(y, x), sums * T(0.25));
            }
        p.keep(mean_d, md);
        p.keep(along, q);
    }
};

template <class T> struct TangentBackward {
    const T *z, *zd, *mean, *rstd, *mean_d, *along, *gamma, *beta, *gamma_d, *g_out, *gd_out;
    T *g_z, *gd_z, *dd_gamma, *dd_beta;

    template <bool WHOLE> void operator()(const Part<T, WHOLE> &p) const {
        typedef typename Part<T, WHOLE>::V V;
        const V m = p.statistic(mean), r = p.statistic(rstd), md = p.statistic(mean_d), q = p.statistic(along);
        const V scale = p.weight(gamma), scale_d = p.weight(gamma_d), a = r * scale, b = p.weight(beta);
        V s_g = {}, s_gn = {}, s_gd = {}, s_mixed = {};
        for (long y = 0; y < p.h; y += 2) {
            V row_g = {}, row_gn = {}, row_gd = {}, row_mixed = {};
            for (long x = 0; x < p.w; x += 2) {
                const V g = p.load(g_out + p.half(y, x)) * T(0.25), gd = p.load(gd_out + p.half(y, x)) * T(0.25);
                for (long k = 0; k < 4; k++) {
                    const long at = p.full(y + k / 2, x + k % 2);
                    const V d = p.load(z + at) - m, on = d * a + b, n = d * r;
                    const V nd = r * (p.load(zd + at) - md - n * q);
                    const V g_y = p.where_on(on, g), gd_y = p.where_on(on, gd);
                    row_g += g_y;
                    row_gn += g_y * n;
                    row_gd += gd_y;
                    row_mixed += gd_y * n + g_y * nd;
                }
            }
            s_g += row_g;
            s_gn += row_gn;
            s_gd += row_gd;
            s_mixed += row_mixed;
        }
        const V d_beta = s_g / p.pixels, d_gamma = s_gn / p.pixels;
        const V d_beta_d = s_gd / p.pixels, d_gamma_d = s_mixed / p.pixels;
        for (long y = 0; y < p.h; y += 2)
            for (long x = 0; x < p.w; x += 2) {
                const V g = p.load(g_out + p.half(y, x)) * T(0.25), gd = p.load(gd_out + p.half(y, x)) * T(0.25);
                for (long k = 0; k < 4; k++) {
                    const long at = p.full(y + k / 2, x + k % 2);
                    const V d = p.load(z + at) - m, on = d * a + b, n = d * r;
                    const V nd = r * (p.load(zd + at) - md - n * q);
                    const V flat = p.where_on(on, g) - d_beta - n * d_gamma;
                    const V flat_d = p.where_on(on, gd) - d_beta_d - nd * d_gamma - n * d_gamma_d;
                    const V made = a * flat;
                    p.store(g_z + at, made);
                    p.store(gd_z + at, r * (scale_d * flat + scale * flat_d - q * made));
                }
            }
        p.keep(dd_gamma, s_mixed);
        p.keep(dd_beta, s_gd);
    }
};

/* Every part of the maps, by `threads` workers. */
template <class T, class Kernel> static void every(const Kernel &kernel, const long *shape, long threads) {
    const long n = shape[0], c = shape[1], h = shape[2], w = shape[3];
    const long lanes = Part<T, true>::LANES, panels = (c + lanes - 1) / lanes;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (threads > 1)
    for (long i = 0; i < n; i++)
        for (long panel = 0; panel < panels; panel++) {
            if ((panel + 1) * lanes <= c)
                kernel(Part<T, true>(i, panel, h, w, c));
            else
                kernel(Part<T, false>(i, panel, h, w, c));
        }
}

template <class T> static void run(int which, void *const *t, const long *shape, long threads, double eps) {
    T **of = (T **)t;
    if (which == 0)
        every<T>(Forward<T>{of[0], of[1], of[2], T(eps), of[3], of[4], of[5]}, shape, threads);
    else if (which == 1)
        every<T>(Backward<T>{of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7], of[8]}, shape, threads);
    else if (which == 2)
        every<T>(TangentForward<T>{of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7], of[8], of[9], of[10]},
                 shape, threads);
    else
        every<T>(TangentBackward<T>{of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7], of[8], of[9], of[10],
                                    of[11], of[12], of[13], of[14]},
                 shape, threads);
}

/* Kernel `which` (forward, backward and their tangents) on the tensors of its struct, in the order of the fields;
 * shape is {n, c, h, w}, `wide` means double. */
extern "C" void dd_block(int which, int wide, void *const *tensors, const long *shape, long threads, double eps) {
    if (wide)
        run<double>(which, tensors, shape, threads, eps);
    else
        run<float>(which, tensors, shape, threads, eps);
}
