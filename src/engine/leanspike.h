/* The engine: answers of a spiking network from one file, in portable C99.
 *
 * leanspike.h and leanspike.c are all that a program needs: libc and libm, no allocation, no threads,
 * nothing global. All memory is the caller's. Compile without contraction of multiply-adds
 * (-ffp-contract=off; -std=c99 implies it with gcc), as it would flip spikes.
 *
 *     size_t room = ls_program_room(file, bytes, message);          of the tables; weights stay in the file
 *     ls_program *program = ls_open(file, bytes, malloc(room), room, message);
 *     room = ls_state_room(program, steps);
 *     ls_state *state = ls_begin(program, steps, malloc(room), room);
 *     ls_run(state, image, 0, steps, logits);
 *
 * A program does not change once it is open: threads share it, each with a state of its own. Images
 * are float32 [height][width][channels]; where the input changes with time, [steps] of these.
 */
#ifndef LEANSPIKE_H
#define LEANSPIKE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LS_VERSION = 1,   /* of the files that are read */
    LS_MESSAGE = 160, /* bytes of a message, the last of which is 0 */
    LS_ALIGNMENT = 8 /* of the file, in bytes; other memory may lie anywhere */
};

typedef struct ls_program ls_program;
typedef struct ls_state ls_state;

/* Bytes for ls_open. 0: the file is no program, and `message` says why in one line. */
size_t ls_program_room(const void *file, size_t bytes, char message[LS_MESSAGE]);

/* Reads the file, which must stay where it is. Everything is checked: NULL and `message` say what is
 * wrong, and no program that is open can read or write outside its memory. */
ls_program *ls_open(const void *file, size_t bytes, void *memory, size_t room,
                    char message[LS_MESSAGE]);

typedef struct {
    int32_t timesteps;               /* T that the network was trained for */
    int32_t most_steps;              /* that can be run; INT32_MAX: any number */
    int32_t height, width, channels; /* of the input */
    int32_t outputs;                 /* K */
    int32_t static_input;            /* one image for all steps */
    int32_t mean_readout;            /* the answer is the mean over steps, else their sum */
    int32_t nodes;
} ls_facts;

ls_facts ls_about(const ls_program *program);

/* Of ASCII, in the file: no 0 ends it. */
typedef struct {
    const char *at;
    int32_t bytes;
} ls_text;

/* How pixels from 0 to 1 become an image: (x - mean) / std. Returns 0 where the file does not say. */
int ls_mean_and_std(const ls_program *program, int32_t channel, float *mean, float *std);

/* The name of output k; of no bytes where the file does not say. */
ls_text ls_class(const ls_program *program, int32_t k);

/* Bytes for ls_begin, for calls of ls_run with at most `steps` steps. 0: more than there can be. */
size_t ls_state_room(const ls_program *program, int32_t steps);

/* A state before the first step. NULL: the memory is too small. */
ls_state *ls_begin(const ls_program *program, int32_t steps, void *memory, size_t room);

/* Steps first, first + 1, ..., after - 1, all of them layer by layer; logits [after - first][K].
 * first is 0 (a new sequence, whatever was before) or the `after` of the last call.
 * Returns 0, or -1, with nothing done, where the steps are not so, or too many for the state. */
int ls_run(ls_state *state, const float *image, int32_t first, int32_t after, float *logits);

/* Early exit: steps one by one, until the answer's margin (the probability of the first class less
 * that of the second, by the mean of the logits so far) is at least `margin`, or after `latest`
 * steps. K = 1 is a yes or no. logits [K]: the mean over the steps taken.
 * Returns how many these were; -1 as ls_run does. */
int32_t ls_answer(ls_state *state, const float *image, float margin, int32_t latest, float *logits);

/* What a node has done, added up over calls. */
typedef struct {
    int64_t events;      /* spikes that it read, once for each synapse */
    int64_t accumulates; /* weights that these met: additions of event-driven synapses */
    int64_t multiplies;  /* multiply-accumulates of synapses that read analog values */
    double seconds;
} ls_count;

/* From now on each node adds to its ls_count, of ls_about().nodes; NULL ends it. `now` tells the time in
 * seconds; NULL: it is not asked. */
void ls_watch(ls_state *state, ls_count *counts, double (*now)(void));

/* What node k is: its path in the network ("" if it has none), what it does, and its output. */
typedef struct {
    ls_text path;
    const char *node, *form;
    int32_t height, width, channels;
} ls_node_facts;

ls_node_facts ls_about_node(const ls_program *program, int32_t node);

/* ---- For whoever makes it faster: the leaves, where the time goes. --------------------------------
 *
 * Loops over pixels, lists and structure are the engine's; these do the arithmetic on LS_BLOCK output
 * channels at once. The engine has plain ones of its own, which also do what these cannot. */

enum { LS_BLOCK = 64 };

/* Some rows of weights of one tap: rows + index[i] * stride bytes, for i in 0 ... count - 1. */
typedef struct {
    const void *rows;
    const uint16_t *index; /* may name a row several times */
    int32_t count;
    int32_t stride; /* bytes; for leaves from outside always LS_BLOCK weights, at whole lines of 64 bytes */
} ls_tap;

enum { LS_SOFT, LS_HARD, LS_UNDECAYED };

/* The neurons of a block at one pixel. Lanes without a neuron never fire: leak 0, threshold 1. */
typedef struct {
    const float *leak, *threshold; /* LS_BLOCK */
    float floor; /* as of ls_neurons */
    int32_t reset;
} ls_neuron;

enum { LS_F32, LS_I8, LS_I6 };

/* The weights of a synapse as they lie in the file: [taps][channels][outputs]. */
typedef struct {
    const void *weights;
    int32_t type, taps, channels, outputs;
} ls_rows;

/* The neurons of a layer, at consecutive pixels. Everything is padded to whole blocks: `blocks` of them. */
typedef struct {
    const float *leak, *threshold; /* [blocks][LS_BLOCK] for each pixel */
    int64_t leak_step, threshold_step; /* floats from pixel to pixel; 0: the same at each */
    float initial;                 /* membranes before the first step, in thresholds */
    float floor;                   /* those after a step are -floor thresholds or more; 0: no matter how low */
    int32_t begin;                 /* this is the first step: what is in `membrane` does not count */
    int32_t reset, blocks;
    int32_t steps, first, after;   /* pixels first <= p < after */
    const float *current;          /* [steps][pixels][blocks][LS_BLOCK] */
    int64_t current_step;          /* floats from step to step; 0: the same at each */
    float *membrane;               /* [pixels][blocks][LS_BLOCK] */
    uint64_t *out;                 /* [steps][pixels][blocks] */
    int64_t out_step;              /* words from step to step */
} ls_neurons;

/* The events that meet an ungrouped synapse of dilation 1, all steps of a chunk, and then its neurons:
 *     current[t][p] = (add ? current[t][p] : 0) + shift[t] + scale[t] * sum of rows,
 * each operation rounded. A linear layer is an image of one pixel. */
typedef struct {
    const uint64_t *bits; /* [steps][height][width][words], words = channels in whole 64s */
    int64_t bits_step;    /* words from step to step */
    int32_t height, width, channels, outputs;
    int32_t kernel[2], stride[2], padding[2], out_width; /* rows, columns */
    int32_t top, bottom;  /* output rows top <= y < bottom, of this call */
    int32_t type;
    const void *packed;   /* by `pack` of the same leaves */
    const float *scale, *shift;      /* [blocks][LS_BLOCK], shift may be NULL: 0 */
    int64_t scale_step, shift_step;  /* floats from step to step; 0: the same at each */
    int32_t add;          /* to what is in neurons.current already */
    int32_t fire;         /* 0: neurons.current is written instead, and current_step is not 0 */
    ls_neurons neurons;   /* its steps, blocks, arrays; first and after are not read */
    void *scratch;        /* events_room bytes from a line of 64 bytes, of this thread alone */
    int64_t accumulated;  /* is written: rows that were added, times outputs */
} ls_events;

/* One step of an ungrouped synapse of dilation 1 that reads analog values: current as above, where `sum` is
 * that of x * weight over taps and channels in order, those outside of the image left out. */
typedef struct {
    const float *image; /* [height][width][channels] */
    int32_t height, width, channels, outputs;
    int32_t kernel[2], stride[2], padding[2], out_width;
    int32_t top, bottom; /* output rows */
    const void *packed;  /* LS_F32 */
    const float *scale, *shift; /* [blocks][LS_BLOCK], or NULL: 1 and 0 */
    int32_t add, blocks;
    float *current;      /* [pixels][blocks][LS_BLOCK] */
} ls_dense;

typedef struct {
    /* The set bits of each pixel, in order: those of pixel p are index[first[p]] ... index[first[p + 1] - 1];
     * first[0] is given, and what is returned is first[pixels]. A pixel is `words` words. There is room
     * for 64 * words entries for each pixel. */
    int32_t (*list)(const uint64_t *bits, int32_t pixels, int32_t words, int32_t *first,
                    uint16_t *index);
    /* sums[k] += the rows, exactly. `group` rows (1, 2 or 4) can be added in int8 without overflow;
     * int16 holds the sum of 256 rows. */
    void (*add_i8)(int32_t sums[LS_BLOCK], const ls_tap *taps, int32_t n, int32_t group);
    /* sums[k] += the rows, tap after tap, each in the order of its list. */
    void (*add_f32)(float sums[LS_BLOCK], const ls_tap *taps, int32_t n);
    /* sums[k] += x[i] * row i, in order; rows of LS_BLOCK floats. */
    void (*multiply_f32)(float sums[LS_BLOCK], const float *x, const float *rows, int32_t n);
    /* current[k] += scale[k] * sums[k]: rounded twice, never fused. */
    void (*scale_i32)(float current[LS_BLOCK], const int32_t sums[LS_BLOCK], const float *scale);
    void (*scale_f32)(float current[LS_BLOCK], const float sums[LS_BLOCK], const float *scale);
    /* One step: u = leak * u + x; fires where u > threshold (which is u / threshold - 1 > 0 in float32);
     * then the reset, and the floor. Undecayed: the threshold is subtracted after the leak, where the last u
     * was above. */
    uint64_t (*fire)(const ls_neuron *neuron, const float current[LS_BLOCK],
                     float membrane[LS_BLOCK]);

    /* The same at a coarser grain, for what takes the time: NULL, or all of them. */
    size_t (*pack_room)(const ls_rows *rows);
    void (*pack)(const ls_rows *rows, void *packed); /* to whole lines of 64 bytes */
    size_t (*events_room)(const ls_events *call); /* 0: these sizes are left to the leaves above */
    void (*events)(ls_events *call);
    void (*dense)(const ls_dense *call); /* where pack_room is not 0 */
    void (*neurons)(const ls_neurons *call);
} ls_kernels;

/* The engine's own. */
const ls_kernels *ls_plain_kernels(void);

/* Lays out the weights of ungrouped synapses for leaves from outside, and has them used from then on:
 * call it before ls_begin. Bytes that it needs, and the work itself, which returns 0, or -1 where the memory is too
 * small. The memory must stay. */
size_t ls_pack_room(const ls_program *program, const ls_kernels *kernels);
int ls_pack(ls_program *program, const ls_kernels *kernels, void *memory, size_t room);

/* Has the work of each layer shared out: share() calls work(data, piece) once for each piece, in any
 * order and any threads, and returns when all are done. No result depends on it. NULL: one after another. */
typedef struct {
    void (*share)(void *self, int32_t pieces, void (*work)(void *data, int32_t piece), void *data);
    void *self;
} ls_team;

void ls_share(ls_state *state, const ls_team *team);

#ifdef __cplusplus
}
#endif

#endif
