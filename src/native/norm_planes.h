/* Planes of a channel each, for the compiler to make vectors of. Included once per instruction set, SET,
 * with the code for rows. Sums are kept apart in LANES, so that they are the same in all of them. */
#include "norm_block.h"

static inline TARGET double NAME(whole)(const float *lanes) {
    double all = 0.0;
    for (int i = 0; i < LANES; i++) all += lanes[i];
    return all;
}

/* Sums of `count` values, and of their squares and products with others: of distances from pivots. */
typedef struct {
    float all[LANES], squares[LANES], shared[LANES];
} NAME(lanes);

static inline TARGET void NAME(add_values)(NAME(lanes) *l, const void *x, int64_t at, int64_t count,
                                           float pivot, const float *others, float other,
                                           const int bf16) {
    int64_t i = 0;
    float pivots[LANES];
    for (int j = 0; j < LANES; j++) pivots[j] = pivot;
    for (; i + LANES <= count; i += LANES) {
        NAME(add_row)(l->all, l->squares, pivots, x, at + i, LANES, bf16);
        for (int j = 0; others && j < LANES; j++)
            l->shared[j] += (load(x, at + i + j, bf16) - pivot) * (others[i + j] - other);
    }
    NAME(add_row)(l->all, l->squares, pivots, x, at + i, count - i, bf16);
    for (int64_t j = 0; others && i + j < count; j++)
        l->shared[j] += (load(x, at + i + j, bf16) - pivot) * (others[i + j] - other);
}

/* `count` values of a plane, which begin at `at` in each step, and before which there were so many of it. */
static inline TARGET void NAME(moments_of_chunk)(const norm_call *n, int64_t c, int64_t at, int64_t count,
                                                 int64_t before, double *found, const int bf16) {
    const int64_t channels = n->channels, groups = step_groups(n), steps = n->steps / groups;
    float mean[CHUNK] = {0.0f};
    NAME(lanes) of_mean = {{0}, {0}, {0}};
    double *mean_group = group_of(n, found, groups) + c;
    if (n->mean_x) {
        NAME(mean_of_steps)(n, mean, at, count, bf16);
        NAME(add_values)(&of_mean, mean, 0, count, mean[0], NULL, 0.0f, 0);
    }
    for (int64_t g = 0; g < groups; g++) {
        NAME(lanes) l = {{0}, {0}, {0}};
        const float pivot = load(n->x, g * n->x_step + at, bf16);
        const float *others = n->shared ? mean : NULL;
        for (int64_t s = g; s < g + steps; s++)
            NAME(add_values)(&l, n->x, s * n->x_step + at, count, pivot, others, others ? mean[0] : 0.0f,
                             bf16);
        double *group = group_of(n, found, g) + c;
        if (n->shared) {
            const double *means[2] = {group, mean_group}, pivots[2] = {pivot, mean[0]};
            const double sums_of[2] = {NAME(whole)(l.all), NAME(whole)(of_mean.all)};
            add_products(shared_of(n, found, g) + c, means, pivots, sums_of, NAME(whole)(l.shared),
                         (double)before, (double)count);
        }
        add_sums(group, group + channels, pivot, NAME(whole)(l.all), NAME(whole)(l.squares),
                 (double)(before * steps), (double)(count * steps));
    }
    if (n->mean_x)
        add_sums(mean_group, mean_group + channels, mean[0], NAME(whole)(of_mean.all),
                 NAME(whole)(of_mean.squares), (double)before, (double)count);
}

static TARGET void NAME(plane_moments)(const norm_call *n, int64_t first, int64_t end, double *found,
                                       float *room) {
    (void)room;
    for (int64_t r = first; r < end; r++)
        for (int64_t c = 0; c < n->channels; c++)
            for (int64_t i = 0; i < n->inner; i += CHUNK) {
                const int64_t at = (r * n->channels + c) * n->inner + i, count = least(CHUNK, n->inner - i);
                const int64_t before = (r - first) * n->inner + i;
                if (n->bf16) NAME(moments_of_chunk)(n, c, at, count, before, found, 1);
                else NAME(moments_of_chunk)(n, c, at, count, before, found, 0);
            }
}

static inline TARGET void NAME(scale_values)(const void *restrict x, void *restrict y, int64_t from,
                                             int64_t to, float scale, float shift, float *restrict all,
                                             int64_t count, const int bf16) {
    if (!all) {
        for (int64_t i = 0; i < count; i++)
            store(y, to + i, scale * load(x, from + i, bf16) + shift, bf16);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        float value = scale * load(x, from + i, bf16) + shift;
        all[i] += value;
        store(y, to + i, value, bf16);
    }
}

static inline TARGET void NAME(normalise_chunk)(const norm_call *n, int64_t c, int64_t at, int64_t count,
                                                const int bf16) {
    const int64_t size = n->rows * n->channels * n->inner;
    float all[CHUNK];
    if (n->mean_y) clear(all, count);
    for (int64_t s = 0; s < n->steps; s++) {
        const int64_t g = (n->per_step ? s * n->channels : 0) + c;
        NAME(scale_values)(n->x, n->y, s * n->x_step + at, s * size + at, n->scale[g], n->shift[g],
                           n->mean_y ? all : NULL, count, bf16);
    }
    for (int64_t i = 0; n->mean_y && i < count; i++)
        store(n->mean_y, at + i, all[i] / (float)n->steps, bf16);
}

static TARGET void NAME(plane_normalise)(const norm_call *n, int64_t first, int64_t end, double *found,
                                         float *room) {
    (void)found, (void)room;
    for (int64_t p = first * n->channels; p < end * n->channels; p++)
        for (int64_t i = 0; i < n->inner; i += CHUNK) {
            const int64_t at = p * n->inner + i, count = least(CHUNK, n->inner - i), c = p % n->channels;
            if (n->bf16) NAME(normalise_chunk)(n, c, at, count, 1);
            else NAME(normalise_chunk)(n, c, at, count, 0);
        }
}

/* Adds `count` gradients of a plane, and their products, to a group's sums. */
static inline TARGET void NAME(sum_values)(const norm_call *n, double *group, float centre, int64_t grad_at,
                                           int64_t at, int64_t count, const int bf16) {
    float all[LANES] = {0}, products[LANES] = {0}, centres[LANES];
    int64_t i = 0;
    for (int j = 0; j < LANES; j++) centres[j] = centre;
    for (; i + LANES <= count; i += LANES)
        NAME(add_gradients)(all, products, n->grad, n->x, grad_at + i, at + i, centres, LANES, bf16);
    NAME(add_gradients)(all, products, n->grad, n->x, grad_at + i, at + i, centres, count - i, bf16);
    group[0] += NAME(whole)(all);
    group[n->channels] += NAME(whole)(products);
}

static TARGET void NAME(plane_sum)(const norm_call *n, int64_t first, int64_t end, double *found,
                                   float *room) {
    (void)room;
    const int64_t channels = n->channels;
    for (int64_t p = first * channels; p < end * channels; p++)
        for (int64_t s = 0; s < n->steps; s++)
            for (int64_t i = 0; i < n->inner; i += CHUNK) {
                const int64_t g = n->per_step ? s : 0, c = p % channels, count = least(CHUNK, n->inner - i);
                const int64_t at = p * n->inner + i;
                double *group = found + g * 2 * channels + c;
                const float centre = n->centre[g * channels + c];
                const int64_t grad_at = s * n->grad_step + at, x_at = s * n->x_step + at;
                if (n->bf16) NAME(sum_values)(n, group, centre, grad_at, x_at, count, 1);
                else NAME(sum_values)(n, group, centre, grad_at, x_at, count, 0);
            }
}

static inline TARGET void NAME(backward_plane)(const norm_call *n, int64_t s, int64_t p, const int bf16) {
    const int64_t g = (n->per_step ? s * n->channels : 0) + p % n->channels, at = p * n->inner;
    const int64_t x_at = s * n->x_step + at, grad_at = s * n->grad_step + at;
    const int64_t to = s * n->rows * n->channels * n->inner + at;
    const float of_grad = n->of_grad[g], of_x = n->of_x[g], centre = n->centre[g], constant = n->constant[g];
    for (int64_t i = 0; i < n->inner; i++) {
        float moved = of_x * (load(n->x, x_at + i, bf16) - centre) + constant;
        store(n->grad_x, to + i, of_grad * load(n->grad, grad_at + i, bf16) + moved, bf16);
    }
}

static TARGET void NAME(plane_backward)(const norm_call *n, int64_t first, int64_t end, double *found,
                                        float *room) {
    (void)found, (void)room;
    for (int64_t s = 0; s < n->steps; s++)
        for (int64_t p = first * n->channels; p < end * n->channels; p++)
            if (n->bf16) NAME(backward_plane)(n, s, p, 1);
            else NAME(backward_plane)(n, s, p, 0);
}
