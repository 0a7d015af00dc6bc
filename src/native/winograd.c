/* Convolutions by Winograd's minimal filtering: dividing the work. */
#include "winograd.h"

#include <stdlib.h>

#ifdef HAVE_X86
#include <immintrin.h>
#endif

enum {
    OUT = 4,               /* a tile's outputs are OUT x OUT */
    IN = 6,                /* its inputs are IN x IN */
    PLANES = IN * IN,      /* numbers that a tile is transformed into: a matrix product for each */
    ROWS = 6,              /* rows of a product in registers */
    APART = 16,            /* floats between planes, which else would meet in the same lines of the L1 cache */
    MOST_BYTES = 1 << 23,  /* forward: transformed tiles of a piece */
    GROUP_BYTES = 1 << 23, /* backward: tiles that are transformed before they are multiplied */
    STRETCH = 48           /* backward: input channels of a piece, a multiple of ROWS */
};

/* Eight channels, of any alignment. */
typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
enum { EIGHT = WINOGRAD_CHANNELS };

typedef struct {
    const convolution_call *call;
    int64_t down, across, tiles;     /* tiles of an image, and of all */
    int64_t width, panels;           /* columns of a panel, which are in registers at once; panels of all outputs */
    int64_t weight_plane;            /* floats from plane to plane */
    float *weights;                  /* [PLANES, panels, channels, width], transformed */
    int64_t block;                   /* forward: tiles of a piece */
    int64_t first, group;            /* backward: the first tile of a group, and its tiles */
    int64_t input_plane, grad_plane; /* backward: floats from plane to plane */
    float *inputs, *grads;           /* backward: [PLANES, group, channels], [PLANES, panels, group, width] */
} task;

/* The pixels of a tile: where it begins, and of which image. */
typedef struct {
    int64_t image, y, x;
} place;

static inline place place_of(const task *t, int64_t tile) {
    int64_t in_image = tile % (t->down * t->across);
    return (place){tile / (t->down * t->across), in_image / t->across * OUT, in_image % t->across * OUT};
}

/* a b + c, rounded once where there is such an instruction: no spike hangs on these sums. */
#define FUSED_plain(a, b, c) ((a) * (b) + (c))
#define FUSED_avx2(a, b, c) _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define FUSED_avx512(a, b, c) _mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define FUSED PASTE(FUSED, SET)

#define SIXTH (1.0f / 6.0f)

#define EACH "winograd_block.h"
#include "each_set.h"

typedef void piece_fn(const void *, int64_t, void *);
typedef struct {
    piece_fn *pack, *forward, *transform, *multiply, *unpack;
    int64_t width;
} code;
#define CODE(set) {pack_##set, forward_##set, transform_##set, multiply_##set, unpack_##set, width_##set}
#ifdef HAVE_X86
static const code codes[] = {CODE(plain), CODE(avx2), CODE(avx512)};
#else
static const code codes[] = {CODE(plain)};
#endif

static int run_forward(task *t) {
    const convolution_call *c = t->call;
    const code *code = &codes[c->means.instructions];
    int64_t floats = PLANES * (c->channels + t->panels * t->width);
    int64_t fitting = least(c->channels * c->outputs / (c->channels + c->outputs), /* as large as the weights */
                            MOST_BYTES / (int64_t)sizeof(float) / floats);
    int64_t shared = parts(t->tiles, most(1, 2 * (int64_t)c->means.threads)); /* no result depends on it */
    t->block = parts(most(1, least(fitting, shared)), ROWS) * ROWS;
    native_job job = {.work = code->pack, .task = t, .pieces = t->panels};
    int failed = native_run(&job, &c->means);
    job.work = code->forward;
    job.pieces = parts(t->tiles, t->block);
    job.scratch = (size_t)(t->block * floats + 2 * PLANES * APART) * sizeof(float);
    return failed ? failed : native_run(&job, &c->means);
}

/* Tiles are transformed in groups, whose sizes depend on those of the call alone: so the bits of the sums do, too. */
static int run_groups(task *t) {
    const convolution_call *c = t->call;
    const code *code = &codes[c->means.instructions];
    int failed = 0;
    int64_t most_tiles = t->group;
    for (t->first = 0; !failed && t->first < t->tiles; t->first += most_tiles) {
        t->group = least(most_tiles, t->tiles - t->first);
        native_job job = {.work = code->transform, .task = t, .pieces = parts(t->group, ROWS)};
        failed = native_run(&job, &c->means);
        job.work = code->multiply;
        job.pieces = PLANES * parts(c->channels, STRETCH);
        if (!failed) failed = native_run(&job, &c->means);
    }
    return failed;
}

static int run_backward(task *t) {
    const convolution_call *c = t->call;
    const code *code = &codes[c->means.instructions];
    int64_t columns = t->panels * t->width, floats = PLANES * (c->channels + columns);
    t->group = most(1, least(t->tiles, GROUP_BYTES / (int64_t)sizeof(float) / floats));
    t->input_plane = t->group * c->channels + APART;
    t->grad_plane = t->group * columns + APART;
    size_t room = (size_t)(PLANES * (t->input_plane + t->grad_plane)) * sizeof(float);
    t->inputs = aligned_alloc(LINE, parts((int64_t)room, LINE) * LINE);
    if (!t->inputs) return -1;
    t->grads = t->inputs + PLANES * t->input_plane;
    memset(t->weights, 0, (size_t)(PLANES * t->weight_plane) * sizeof(float));
    int failed = run_groups(t);
    native_job job = {.work = code->unpack, .task = t, .pieces = t->panels};
    if (!failed) failed = native_run(&job, &c->means);
    free(t->inputs);
    return failed;
}

int leanspike_winograd(const convolution_call *call) {
    task t = {.call = call, .width = codes[call->means.instructions].width};
    t.down = parts(call->rows.output, OUT), t.across = parts(call->columns.output, OUT);
    t.tiles = call->images * t.down * t.across;
    t.panels = parts(call->outputs, t.width);
    t.weight_plane = t.panels * call->channels * t.width + APART;
    int64_t room = PLANES * t.weight_plane * (int64_t)sizeof(float);
    t.weights = aligned_alloc(LINE, (size_t)(parts(room, LINE) * LINE));
    if (!t.weights) return -1;
    int failed = call->weight ? run_forward(&t) : run_backward(&t);
    free(t.weights);
    return failed;
}
