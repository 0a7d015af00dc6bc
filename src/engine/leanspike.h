/* The engine runs a spiking network from one file, in portable C99.
 *
 * A program needs leanspike.h, leanspike.c, libc and libm, and nothing else. The engine allocates no
 * memory, starts no threads, and has no global state. All memory is the caller's. Compile without
 * contraction of multiply-adds, which would flip spikes: -ffp-contract=off, which gcc's -std=c99 implies.
 *
 *     size_t room = ls_program_room(file, bytes, message);          for tables; weights stay in the file
 *     ls_program *program = ls_open(file, bytes, malloc(room), room, message);
 *     room = ls_state_room(program, steps);
 *     ls_state *state = ls_begin(program, steps, malloc(room), room);
 *     ls_run(state, image, 0, steps, logits);
 *
 * An open program does not change: threads may share it, each with a state of its own. An image is
 * float32 [height][width][channels]. If the input changes with time, it is [steps] such images.
 */
#ifndef LEANSPIKE_H
#define LEANSPIKE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LS_VERSION = 1,   /* the version of files that the engine reads */
    LS_MESSAGE = 160, /* bytes of a message, with a 0 at its end */
    LS_ALIGNMENT = 8 /* the file's alignment in bytes; other memory needs none */
};

typedef struct ls_program ls_program;
typedef struct ls_state ls_state;

/* Returns the bytes that ls_open needs. 0: the file is no program, and `message` says why in one line. */
size_t ls_program_room(const void *file, size_t bytes, char message[LS_MESSAGE]);

/* Reads the file, which must stay in its place. Everything is checked, so an open program cannot read or
 * write outside its memory. Returns NULL if anything is wrong; `message` says what. */
ls_program *ls_open(const void *file, size_t bytes, void *memory, size_t room,
                    char message[LS_MESSAGE]);

typedef struct {
    int32_t timesteps;               /* T, for which the network was trained */
    int32_t most_steps;              /* the most steps of a run; INT32_MAX: any number */
    int32_t height, width, channels; /* the input's shape */
    int32_t outputs;                 /* K */
    int32_t static_input;            /* 1: one image is the input of all steps */
    int32_t mean_readout;            /* 1: the answer is the mean over steps; 0: their sum */
    int32_t nodes;
} ls_facts;

ls_facts ls_about(const ls_program *program);

/* A text of ASCII in the file, without a 0 at its end. */
typedef struct {
    const char *at;
    int32_t bytes;
} ls_text;

/* Sets the constants that turn pixels x from 0 to 1 into an image: (x - mean) / std. Returns 0 if the file
 * has none. */
int ls_mean_and_std(const ls_program *program, int32_t channel, float *mean, float *std);

/* Returns the name of output k, or 0 bytes if the file has no names. */
ls_text ls_class(const ls_program *program, int32_t k);

/* Returns the bytes that ls_begin needs, for calls of ls_run with at most `steps` steps. 0: too many. */
size_t ls_state_room(const ls_program *program, int32_t steps);

/* Returns a state before the first step, or NULL if the memory is too small. */
ls_state *ls_begin(const ls_program *program, int32_t steps, void *memory, size_t room);

/* Runs the steps from `first` to after - 1, layer by layer, and writes logits [after - first][K].
 * `first` is 0 for a new sequence, or else the `after` of the last call. Returns 0. If the steps are
 * others, or too many for the state, it returns -1 and does nothing. */
int ls_run(ls_state *state, const float *image, int32_t first, int32_t after, float *logits);

/* Runs with early exit: step by step, until the answer's margin is at least `margin`, or `latest` steps
 * are done. The margin is the probability of the likeliest class minus that of the second, from the
 * mean of the logits so far. K = 1 is a yes or no. Writes logits [K], the mean over the steps taken.
 * Returns the number of these steps, or -1 as ls_run does. */
int32_t ls_answer(ls_state *state, const float *image, float margin, int32_t latest, float *logits);

/* The work of a node, added up over calls. */
typedef struct {
    int64_t events;      /* spikes that it read, counted for each synapse */
    int64_t accumulates; /* weights that these spikes met: additions of event-driven synapses */
    int64_t multiplies;  /* multiply-accumulates of synapses that read analog values */
    double seconds;
} ls_count;

/* Lets each node add to its ls_count from now on; `counts` has ls_about().nodes entries. NULL ends that.
 * `now` returns the time in seconds. If it is NULL, no time is measured. */
void ls_watch(ls_state *state, ls_count *counts, double (*now)(void));

/* The facts of a node: its path in the network ("" if it has none), its kind, and its output. */
typedef struct {
    ls_text path;
    const char *node, *form;
    int32_t height, width, channels;
} ls_node_facts;

ls_node_facts ls_about_node(const ls_program *program, int32_t node);

/* ---- Leaves: the functions that take nearly all of the time, and may be replaced by faster ones. ----
 *
 * The engine itself loops over pixels, lists and nodes. The leaves do the arithmetic, on LS_BLOCK output
 * channels at once. The engine has plain leaves of its own, which also do what faster ones refuse. */

enum { LS_BLOCK = 64 };

/* Some rows of weights of one tap. Row i, from 0 to count - 1, lies at rows + index[i] * stride bytes. */
typedef struct {
    const void *rows;
    const uint16_t *index; /* the same row may occur several times */
    int32_t count;
    int32_t stride; /* bytes; outside leaves always get LS_BLOCK weights, at whole lines of 64 bytes */
} ls_tap;

enum { LS_SOFT, LS_HARD, LS_UNDECAYED };

/* The neurons of a block at one pixel. Lanes without a neuron never fire: leak 0, threshold 1. */
typedef struct {
    const float *leak, *threshold; /* LS_BLOCK */
    float floor; /* as in ls_neurons */
    int32_t reset;
} ls_neuron;

enum { LS_F32, LS_I8, LS_I6 };

/* The weights of a synapse in the order of the file: [taps][channels][outputs]. */
typedef struct {
    const void *weights;
    int32_t type, taps, channels, outputs;
} ls_rows;

/* The neurons of a layer, at consecutive pixels. Every array is padded to whole blocks. */
typedef struct {
    const float *leak, *threshold; /* [blocks][LS_BLOCK] for each pixel */
    int64_t leak_step, threshold_step; /* floats from pixel to pixel; 0: the same at each */
    float initial;                 /* membranes before the first step, in thresholds */
    float floor;                   /* membranes after a step are -floor thresholds or more; 0: no floor */
    int32_t begin;                 /* 1: this is the first step, so the values in `membrane` are ignored */
    int32_t reset, blocks;
    int32_t steps, first, after;   /* pixels first <= p < after */
    const float *current;          /* [steps][pixels][blocks][LS_BLOCK] */
    int64_t current_step;          /* floats from step to step; 0: the same at each */
    float *membrane;               /* [pixels][blocks][LS_BLOCK] */
    uint64_t *out;                 /* [steps][pixels][blocks] */
    int64_t out_step;              /* words from step to step */
} ls_neurons;

/* An ungrouped synapse of dilation 1 and the events that it reads, at all steps of a chunk; then the neurons:
 *     current[t][p] = (add ? current[t][p] : 0) + shift[t] + scale[t] * sum of rows.
 * Each operation is rounded. A linear layer is an image of one pixel. */
typedef struct {
    const uint64_t *bits; /* [steps][height][width][words]; a word holds 64 channels */
    int64_t bits_step;    /* words from step to step */
    int32_t height, width, channels, outputs;
    int32_t kernel[2], stride[2], padding[2], out_width; /* rows, columns */
    int32_t top, bottom;  /* this call computes output rows top <= y < bottom */
    int32_t type;
    const void *packed;   /* weights laid out by `pack` of the same leaves */
    const float *scale, *shift;      /* [blocks][LS_BLOCK]; a shift of NULL is 0 */
    int64_t scale_step, shift_step;  /* floats from step to step; 0: the same at each */
    int32_t add;          /* 1: add to neurons.current; 0: overwrite it */
    int32_t fire;         /* 0: neurons.current is written instead; current_step is not 0 */
    ls_neurons neurons;   /* first and after are not read */
    void *scratch;        /* events_room bytes for this thread alone, aligned to 64 bytes */
    int64_t accumulated;  /* output: the number of added rows, times outputs */
} ls_events;

/* One step of an ungrouped synapse of dilation 1 that reads analog values. The current is as above; the sum
 * is that of x * weight over taps and channels, in order. Taps outside of the image are left out. */
typedef struct {
    const float *image; /* [height][width][channels] */
    int32_t height, width, channels, outputs;
    int32_t kernel[2], stride[2], padding[2], out_width;
    int32_t top, bottom; /* output rows */
    const void *packed;  /* LS_F32 */
    const float *scale, *shift; /* [blocks][LS_BLOCK]; NULL is 1 and 0 */
    int32_t add, blocks;
    float *current;      /* [pixels][blocks][LS_BLOCK] */
} ls_dense;

typedef struct {
    /* Lists the set bits of each pixel, in order. Those of pixel p are index[first[p]] to
     * index[first[p + 1] - 1]; first[0] is given. Returns first[pixels]. A pixel is `words` words. There is
     * room for 64 * words entries for each pixel. */
    int32_t (*list)(const uint64_t *bits, int32_t pixels, int32_t words, int32_t *first,
                    uint16_t *index);
    /* Adds the rows to sums[k], exactly. `group` rows (1, 2 or 4) can be added in int8 without overflow,
     * and 256 rows in int16. */
    void (*add_i8)(int32_t sums[LS_BLOCK], const ls_tap *taps, int32_t n, int32_t group);
    /* Adds the rows to sums[k], tap after tap, each tap in the order of its list. */
    void (*add_f32)(float sums[LS_BLOCK], const ls_tap *taps, int32_t n);
    /* Adds x[i] * row i to sums[k], in order. A row has LS_BLOCK floats. */
    void (*multiply_f32)(float sums[LS_BLOCK], const float *x, const float *rows, int32_t n);
    /* Adds scale[k] * sums[k] to current[k]. Product and sum are each rounded, never fused. */
    void (*scale_i32)(float current[LS_BLOCK], const int32_t sums[LS_BLOCK], const float *scale);
    void (*scale_f32)(float current[LS_BLOCK], const float sums[LS_BLOCK], const float *scale);
    /* Computes one step: u = leak * u + x; a spike where u > threshold, which is u / threshold - 1 > 0 in
     * float32; then the reset, and the floor. LS_UNDECAYED subtracts the threshold after the leak, where
     * the last u was above it. */
    uint64_t (*fire)(const ls_neuron *neuron, const float current[LS_BLOCK],
                     float membrane[LS_BLOCK]);

    /* Leaves for whole layers, which take nearly all of the time. All of them are NULL, or none is. */
    size_t (*pack_room)(const ls_rows *rows);
    void (*pack)(const ls_rows *rows, void *packed); /* into whole lines of 64 bytes */
    size_t (*events_room)(const ls_events *call); /* 0: the leaves above compute these sizes */
    void (*events)(ls_events *call);
    void (*dense)(const ls_dense *call); /* called only if pack_room is not 0 */
    void (*neurons)(const ls_neurons *call);
} ls_kernels;

/* Returns the engine's own leaves. */
const ls_kernels *ls_plain_kernels(void);

/* ls_pack lays out the weights of ungrouped synapses for outside leaves, which are used from then on. Call it
 * before ls_begin. It needs ls_pack_room() bytes, which must stay in their place. It returns 0, or -1 if the
 * memory is too small. */
size_t ls_pack_room(const ls_program *program, const ls_kernels *kernels);
int ls_pack(ls_program *program, const ls_kernels *kernels, void *memory, size_t room);

/* A team shares out the work of each layer: share() calls work(data, piece) once for each piece, in any
 * order and any threads, and returns when all pieces are done. No result depends on it. Without a team
 * (NULL) the pieces run one after another. */
typedef struct {
    void (*share)(void *self, int32_t pieces, void (*work)(void *data, int32_t piece), void *data);
    void *self;
} ls_team;

void ls_share(ls_state *state, const ls_team *team);

#ifdef __cplusplus
}
#endif

#endif
