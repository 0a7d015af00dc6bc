/* The engine, described in leanspike.h. From top to bottom: tables, messages, memory, JSON, the header,
 * the checks, plain leaves, states, layers, other nodes, runs. */
#include "leanspike.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_SIZE = 1 << 28,     /* entries of an edge */
    MOST_CHANNELS = 1 << 16, /* an index of a list has 16 bits */
    MOST_STEPS = 65535,
    MOST_EVENTS = 1 << 24,   /* events of one sum; times 127 they fit int32 */
    MOST_COUNT = 255,        /* the largest count of a sum pool */
    TAPS = 32,               /* taps that one call of a leaf gets */
    MOST_PIECES = 8,         /* pieces of a layer for leaves that do whole layers */
    PREFIX = 32,             /* bytes before the header */
    LINE = 64                /* bytes of a line of the cache */
};

/* ---- The tables of a file. Numbers of tensors and edges are checked before they are used. ---- */

typedef ls_text text;

typedef enum { ANALOG, SPIKES, COUNTS } form;
typedef enum { LAYER, MAX_POOL, SUM_POOL, CONCAT, PAD, UPSAMPLE, RELABEL } kind;
typedef enum { CONV, LINEAR, SAME } synapse_kind;

static const char *const types[] = { /* in the order of LS_F32 ... */
    "f32", "i8", "i6", NULL};
static const char *const forms[] = {"analog", "spikes", "counts", NULL};
static const char *const kinds[] = {"layer",    "max_pool", "sum_pool", "concat",
                                    "pad",      "upsample", "relabel",  NULL};
static const char *const synapse_kinds[] = {"conv", "linear", "same", NULL};
static const char *const resets[] = {"soft", "hard", "undecayed", NULL}; /* in the order of LS_SOFT ... */
static const char *const readouts[] = {"sum", "mean", NULL};

typedef struct {
    int32_t type, axes;
    int64_t shape[4], offset, entries;
} tensor;

typedef struct {
    int32_t height, width, channels, form;
    int32_t is_static; /* the same at each step */
    int32_t most;      /* spikes that may lie under an entry */
} edge;

typedef struct {
    int32_t edge, kind, groups, weights, scale; /* weights: -1 if there are none */
    int32_t stride[2], padding[2], dilation[2];
    /* The check sets these: */
    int32_t kernel[2], channels; /* channels of a group */
    int32_t rows_of_scale, add_at_once;
    const char *rows;   /* weights, in the file */
    const char *packed; /* weights in rows of LS_BLOCK, or NULL */
    const void *whole;  /* weights laid out for leaves that do whole layers, or NULL */
} synapse;

typedef struct {
    text path;
    edge made;
    int32_t kind, keys; /* keys: a bit for each key found */
    int32_t first, count; /* its synapses, or the edges it reads, among the program's inputs */
    int32_t pair[2], stride[2], padding[4], paddings; /* pair: kernel or factors */
    int32_t shift, rows_of_shift, has_neuron, leak, threshold, reset;
    float initial, floor;
} node;

/* A list of numbers or strings in the header. */
typedef struct {
    const char *at; /* behind the bracket; NULL: no list */
    int32_t count;
} list;

struct ls_program {
    const char *file;
    list mean, std, classes;
    int32_t timesteps, mean_readout, output, most_steps;
    int32_t nodes, synapses, inputs, tensors, edges;
    edge *edge;
    node *node;
    synapse *synapse;
    int32_t *input;
    tensor *tensor;
    const ls_kernels *kernels; /* for packed synapses */
};

static int32_t words(const edge *e) { return (e->channels + 63) / 64; }
static int64_t pixels(const edge *e) { return (int64_t)e->height * e->width; }

/* ---- Messages ---- */

typedef struct {
    char *message; /* of LS_MESSAGE bytes */
    int failed;
} judge;

/* Writes the message of the first reason, and ignores all later ones. */
static int refuse(judge *j, const char *format, ...) {
    if (!j->failed) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(j->message, LS_MESSAGE, format, arguments);
        va_end(arguments);
    }
    j->failed = 1;
    return 0;
}

/* ---- Memory: handed out piece by piece, or only measured if there is none ---- */

typedef struct {
    char *base;
    uint64_t used;
} memory;

static uint64_t whole_lines(uint64_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

static memory begin_memory(void *given) {
    memory m = {NULL, 0};
    if (given) m.base = (char *)given + (LINE - (uintptr_t)given % LINE) % LINE;
    return m;
}

static void *take(memory *m, uint64_t count, uint64_t size) {
    void *found = m->base ? m->base + m->used : NULL;
    if (m->used < (uint64_t)1 << 62) m->used += whole_lines(count * size); /* each below 2^60 */
    return found;
}

/* The bytes to ask of the caller, with some to begin at a line. 0: too many. */
static size_t room_for(const memory *m) {
    uint64_t room = m->used + LINE - 1;
    return room > SIZE_MAX / 2 ? 0 : (size_t)room;
}

/* ---- JSON: only what a header may hold; objects have all keys, in any order ---- */

typedef struct {
    judge judge;
    const char *begin, *at, *end;
    ls_program *program; /* the output; without tables, parts are only counted */
    node *node;          /* the node that is being read */
    synapse *synapse;
} reader;

static int unexpected(reader *r, const char *expected) {
    return refuse(&r->judge, "the header is damaged at byte %d: expected %s; write the file again",
                  (int)(r->at - r->begin), expected);
}

static char next(reader *r) {
    while (r->at < r->end && *r->at == ' ') r->at++;
    return r->at < r->end && !r->judge.failed ? *r->at : 0;
}

static int taken(reader *r, char c) {
    if (next(r) != c || c == 0) return 0;
    r->at++;
    return 1;
}

static void expect(reader *r, char c) {
    char named[] = {'\'', c, '\'', 0};
    if (!taken(r, c)) unexpected(r, named);
}

/* Returns whether a list or an object goes on after its n-th part. */
static int goes_on(reader *r, int32_t n, char end) {
    if (r->judge.failed || taken(r, end)) return 0;
    if (n > 0) expect(r, ',');
    return !r->judge.failed;
}

static text read_text(reader *r) {
    text found = {"", 0};
    expect(r, '"');
    if (r->judge.failed) return found;
    found.at = r->at;
    while (r->at < r->end && *r->at != '"' && *r->at >= ' ' && *r->at <= '~' && *r->at != '\\')
        r->at++;
    found.bytes = (int32_t)(r->at - found.at);
    expect(r, '"');
    return found;
}

static int same_text(text found, const char *name) {
    return strlen(name) == (size_t)found.bytes && memcmp(found.at, name, strlen(name)) == 0;
}

static int32_t one_of(reader *r, const char *const *names, const char *expected) {
    text found = read_text(r);
    for (int32_t i = 0; names[i]; i++)
        if (same_text(found, names[i])) return i;
    unexpected(r, expected);
    return 0;
}

static int digits(reader *r) {
    const char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > begin;
}

/* Reads a number of JSON. Its exponent shows whether it is finite. */
static double read_number(reader *r) {
    char copy[33] = "";
    next(r);
    const char *begin = r->at;
    if (r->at < r->end && *r->at == '-') r->at++;
    const char *first = r->at;
    int right = digits(r) && (*first != '0' || r->at == first + 1);
    if (right && r->at < r->end && *r->at == '.') r->at++, right = digits(r);
    if (right && r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '-' || *r->at == '+')) r->at++;
        right = digits(r);
    }
    if (!right || r->at - begin > 32) return unexpected(r, "a number");
    memcpy(copy, begin, (size_t)(r->at - begin));
    double value = 0;
    if (sscanf(copy, "%lf", &value) != 1 || !(value <= 1e308 && value >= -1e308))
        unexpected(r, "a finite number");
    return value;
}

static int64_t read_whole(reader *r, int64_t most) {
    int64_t value = 0;
    next(r);
    const char *begin = r->at;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9' && value <= most; r->at++)
        value = value * 10 + (*r->at - '0');
    int further = r->at < r->end && (*r->at == '.' || *r->at == 'e' || *r->at == 'E');
    if (r->at == begin || value > most || (*begin == '0' && r->at > begin + 1) || further)
        return unexpected(r, "a whole number that is not too large");
    return value;
}

static int32_t read_int(reader *r) { return (int32_t)read_whole(r, INT32_MAX); }

/* Reads up to `most` whole numbers; returns how many. */
static int32_t read_ints(reader *r, int32_t *into, int32_t most) {
    int32_t n = 0;
    expect(r, '[');
    for (; goes_on(r, n, ']'); n++) {
        if (n == most) return unexpected(r, "fewer numbers");
        into[n] = read_int(r);
    }
    return n;
}

static void read_pair(reader *r, int32_t into[2]) {
    if (read_ints(r, into, 2) != 2) unexpected(r, "two numbers");
}

static int read_word(reader *r, const char *word) {
    size_t length = strlen(word);
    if (next(r) != word[0] || (size_t)(r->end - r->at) < length) return 0;
    if (memcmp(r->at, word, length) != 0) return 0;
    r->at += length;
    return 1;
}

/* Reads an object of these keys. `value` gets the number of a key and reads its value. Returns a bit for
 * each key found. */
static int32_t read_object(reader *r, const char *const *keys, void (*value)(reader *, int32_t)) {
    int32_t seen = 0, n = 0;
    expect(r, '{');
    for (; goes_on(r, n, '}'); n++) {
        int32_t key = one_of(r, keys, "another key");
        if (seen >> key & 1) unexpected(r, "no key twice");
        seen |= (int32_t)1 << key;
        expect(r, ':');
        if (!r->judge.failed) value(r, key);
    }
    return seen;
}

static void require_keys(reader *r, int32_t seen, int32_t required) {
    if (seen != required) unexpected(r, "other keys before it (some lack or do not belong)");
}

/* ---- The header, into the program's tables ---- */

static const char *const neuron_keys[] = {"leak", "threshold", "reset", "initial", "floor", NULL};
enum { REQUIRED_OF_NEURON = 15 }; /* the floor may be missing */

static void neuron_value(reader *r, int32_t key) {
    node *n = r->node;
    if (key == 0) n->leak = read_int(r);
    else if (key == 1) n->threshold = read_int(r);
    else if (key == 2) n->reset = one_of(r, resets, "soft, hard or undecayed");
    else if (key == 3) {
        double initial = read_number(r);
        if (initial != 0 && initial != 0.5) unexpected(r, "0 or 0.5 before it");
        n->initial = (float)initial;
    } else {
        double floor = read_number(r);
        if (!(floor >= FLT_MIN && floor <= FLT_MAX)) unexpected(r, "a floor above 0 before it");
        else n->floor = (float)floor;
    }
}

static const char *const synapse_keys[] = {"edge",     "kind",   "weights", "stride", "padding",
                                           "dilation", "groups", "scale",   NULL};

static void synapse_value(reader *r, int32_t key) {
    synapse *s = r->synapse;
    if (key == 0) s->edge = read_int(r);
    else if (key == 1) s->kind = one_of(r, synapse_kinds, "conv, linear or same");
    else if (key == 2) s->weights = read_word(r, "null") ? -1 : read_int(r);
    else if (key == 3) read_pair(r, s->stride);
    else if (key == 4) read_pair(r, s->padding);
    else if (key == 5) read_pair(r, s->dilation);
    else if (key == 6) s->groups = read_int(r);
    else s->scale = read_int(r);
}

static void read_synapses(reader *r, node *of) {
    ls_program *p = r->program;
    of->first = p->synapses;
    expect(r, '[');
    for (of->count = 0; goes_on(r, of->count, ']'); of->count++, p->synapses++) {
        synapse spare, *s = p->synapse ? p->synapse + p->synapses : &spare;
        memset(s, 0, sizeof *s);
        r->synapse = s;
        require_keys(r, read_object(r, synapse_keys, synapse_value), 0xff);
    }
}

static void read_input(reader *r, node *of) {
    ls_program *p = r->program;
    int32_t number = read_int(r);
    if (p->input) p->input[p->inputs] = number;
    p->inputs++;
    of->count++;
}

static void read_inputs(reader *r, node *of) {
    of->first = r->program->inputs;
    if (next(r) != '[') {
        read_input(r, of);
        return;
    }
    expect(r, '[');
    while (goes_on(r, of->count, ']')) read_input(r, of);
}

static void read_shape(reader *r, edge *of) {
    int32_t shape[3];
    if (read_ints(r, shape, 3) != 3) {
        unexpected(r, "three numbers");
        return;
    }
    of->height = shape[0], of->width = shape[1], of->channels = shape[2];
    int right = shape[0] > 0 && shape[1] > 0 && shape[2] > 0 && shape[2] <= MOST_CHANNELS;
    if (!right || shape[0] > MOST_SIZE || shape[1] > MOST_SIZE ||
        (int64_t)shape[0] * shape[1] > MOST_SIZE / shape[2])
        unexpected(r, "a shape of 1 to 2^28 entries and 2^16 channels before it");
}

enum { NODE, PATH, SHAPE, FORM, SYNAPSES, SHIFT, NEURON, EDGE, EDGES, KERNEL, STRIDE, PADDING, FACTORS };
static const char *const node_keys[] = {"node",  "path",   "shape",  "form",    "synapses",
                                        "shift", "neuron", "edge",   "edges",   "kernel",
                                        "stride", "padding", "factors", NULL};
#define BIT(key) ((int32_t)1 << (key))
static const int32_t keys_of_kind[] = {
    15 | BIT(SYNAPSES) | BIT(SHIFT) | BIT(NEURON),
    15 | BIT(EDGE) | BIT(KERNEL) | BIT(STRIDE) | BIT(PADDING),
    15 | BIT(EDGE) | BIT(KERNEL) | BIT(STRIDE) | BIT(PADDING),
    15 | BIT(EDGES),
    15 | BIT(EDGE) | BIT(PADDING),
    15 | BIT(EDGE) | BIT(FACTORS),
    15 | BIT(EDGE),
};

static void node_part(reader *r, node *n, int32_t key) {
    if (key == KERNEL || key == FACTORS) read_pair(r, n->pair);
    else if (key == STRIDE) read_pair(r, n->stride);
    else if (key == PADDING) n->paddings = read_ints(r, n->padding, 4);
    else if (key == SHIFT) n->shift = read_int(r);
    else if (key == SYNAPSES) read_synapses(r, n);
    else if (key == NEURON) {
        n->has_neuron = !read_word(r, "null");
        if (!n->has_neuron) return;
        int32_t seen = read_object(r, neuron_keys, neuron_value);
        require_keys(r, seen & REQUIRED_OF_NEURON, REQUIRED_OF_NEURON);
    } else if ((key == EDGES) != (next(r) == '[')) unexpected(r, "an edge, or a list of edges");
    else read_inputs(r, n);
}

static void node_value(reader *r, int32_t key) {
    node *n = r->node;
    if (key == NODE) n->kind = one_of(r, kinds, "a kind of node");
    else if (key == PATH) n->path = read_text(r);
    else if (key == SHAPE) read_shape(r, &n->made);
    else if (key == FORM) n->made.form = one_of(r, forms, "analog, spikes or counts");
    else node_part(r, n, key);
}

static void read_nodes(reader *r) {
    ls_program *p = r->program;
    expect(r, '[');
    for (; goes_on(r, p->nodes, ']'); p->nodes++) {
        node spare, *n = p->node ? p->node + p->nodes : &spare;
        memset(n, 0, sizeof *n);
        r->node = n;
        int32_t seen = read_object(r, node_keys, node_value);
        require_keys(r, seen, keys_of_kind[n->kind]);
        if (p->nodes == MOST_SIZE) unexpected(r, "fewer nodes");
    }
}

static const char *const tensor_keys[] = {"type", "shape", "offset", NULL};

static void tensor_value(reader *r, int32_t key) {
    ls_program *p = r->program;
    tensor spare, *t = p->tensor ? p->tensor + p->tensors : &spare;
    int32_t shape[4];
    if (key == 0) t->type = one_of(r, types, "f32, i8 or i6");
    else if (key == 2) t->offset = read_whole(r, (int64_t)1 << 53);
    else {
        t->axes = read_ints(r, shape, 4);
        for (int32_t i = 0; i < t->axes && !r->judge.failed; i++) t->shape[i] = shape[i];
    }
}

static void read_tensors(reader *r) {
    ls_program *p = r->program;
    expect(r, '[');
    for (; goes_on(r, p->tensors, ']'); p->tensors++) {
        if (p->tensor) memset(p->tensor + p->tensors, 0, sizeof *p->tensor);
        require_keys(r, read_object(r, tensor_keys, tensor_value), 7);
    }
}

enum { MEAN = 2, STD, CLASSES };
static const char *const input_keys[] = {"shape", "static", "mean", "std", "classes", NULL};

/* Finds a list that the engine itself does not use: its place and length. */
static list read_list(reader *r, int32_t key) {
    list found = {NULL, 0};
    if (read_word(r, "null")) return found;
    expect(r, '[');
    found.at = r->at;
    for (; goes_on(r, found.count, ']'); found.count++) {
        double number = key == CLASSES ? 1 : read_number(r);
        if (key == CLASSES) read_text(r);
        if (key == STD && number <= 0) unexpected(r, "a number above 0 before it");
    }
    return found;
}

static void input_value(reader *r, int32_t key) {
    ls_program *p = r->program;
    edge spare, *e = p->edge ? p->edge : &spare;
    if (key == 0) read_shape(r, e);
    else if (key == 1) {
        e->is_static = read_word(r, "true");
        if (!e->is_static && !read_word(r, "false")) unexpected(r, "true or false");
    } else *(key == MEAN ? &p->mean : key == STD ? &p->std : &p->classes) = read_list(r, key);
}

static const char *const header_keys[] = {"made_by", "timesteps", "readout", "input",
                                          "tensors", "nodes",     "output",  NULL};

static void header_value(reader *r, int32_t key) {
    ls_program *p = r->program;
    if (key == 0) read_text(r);
    else if (key == 1) p->timesteps = read_int(r);
    else if (key == 2) p->mean_readout = one_of(r, readouts, "sum or mean");
    else if (key == 3) require_keys(r, read_object(r, input_keys, input_value), 31);
    else if (key == 4) read_tensors(r);
    else if (key == 5) read_nodes(r);
    else p->output = read_int(r);
}

/* ---- The file ---- */

static uint64_t little(const char *bytes, int32_t count) {
    uint64_t value = 0;
    while (count-- > 0) value = value << 8 | (unsigned char)bytes[count];
    return value;
}

/* Returns zlib's checksum, computed from four bits at a time. */
static uint32_t checksum(const char *bytes, size_t count) {
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t sum = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        sum ^= (unsigned char)bytes[i];
        sum = sum >> 4 ^ table[sum & 15];
        sum = sum >> 4 ^ table[sum & 15];
    }
    return ~sum;
}

static int check_prefix(judge *j, const char *file, size_t bytes) {
    if (!file || bytes < PREFIX || memcmp(file, "LEANSPIK", 8) != 0)
        return refuse(j, "this is no file of leanspike's; write one with `leanspike compile`");
    if ((uintptr_t)file % LS_ALIGNMENT)
        return refuse(j, "the file lies at %d bytes after a multiple of %d; move it there",
                      (int)((uintptr_t)file % LS_ALIGNMENT), (int)LS_ALIGNMENT);
    uint32_t version = (uint32_t)little(file + 8, 4);
    if (version != LS_VERSION)
        return refuse(j, "the file is of version %lu, this reads version %d: use the reader of the "
                      "leanspike that wrote it", (unsigned long)version, (int)LS_VERSION);
    if (little(file + 16, 8) != bytes || little(file + 12, 4) > bytes - PREFIX || little(file + 28, 4))
        return refuse(j, "the file is cut or longer than it says (%lu bytes); copy it again",
                      (unsigned long)bytes);
    if (checksum(file + PREFIX, bytes - PREFIX) != (uint32_t)little(file + 24, 4))
        return refuse(j, "the file is damaged (its checksum is another); copy it again");
    const uint16_t one = 1;
    if (*(const unsigned char *)&one != 1) return refuse(j, "this machine is not little-endian");
    return 1;
}

/* Reads the header into the tables of `program`, or only counts its parts. */
static int read_header(ls_program *program, const char *file, judge *j) {
    reader r;
    memset(&r, 0, sizeof r);
    r.judge = *j;
    r.begin = r.at = file + PREFIX;
    r.end = r.begin + little(file + 12, 4);
    r.program = program;
    program->nodes = program->synapses = program->inputs = program->tensors = 0;
    require_keys(&r, read_object(&r, header_keys, header_value), 127);
    if (next(&r)) unexpected(&r, "its end"); /* spaces may follow */
    j->failed = r.judge.failed;
    program->edges = program->nodes + 1;
    return !j->failed;
}

static ls_program *lay_out_tables(ls_program *counted, memory *m) {
    ls_program *program = take(m, 1, sizeof *program);
    if (!program) program = counted;
    *program = *counted;
    program->edge = take(m, (uint64_t)counted->edges, sizeof(edge));
    program->node = take(m, (uint64_t)counted->nodes, sizeof(node));
    program->synapse = take(m, (uint64_t)counted->synapses, sizeof(synapse));
    program->input = take(m, (uint64_t)counted->inputs, sizeof(int32_t));
    program->tensor = take(m, (uint64_t)counted->tensors, sizeof(tensor));
    return program;
}

/* ---- Checks of a program ---- */

static int check_tensors(ls_program *p, judge *j, size_t bytes) {
    uint64_t end = PREFIX + little(p->file + 12, 4);
    for (int32_t i = 0; i < p->tensors; i++) {
        tensor *t = p->tensor + i;
        t->entries = t->axes > 0;
        for (int32_t a = 0; a < t->axes; a++) {
            if (t->shape[a] < 1 || t->entries > (int64_t)bytes / t->shape[a]) t->entries = 0;
            t->entries *= t->shape[a];
        }
        uint64_t size = (uint64_t)t->entries * (t->type == LS_F32 ? sizeof(float) : 1);
        uint64_t begin = whole_lines(end);
        if (size == 0 || (uint64_t)t->offset != begin || begin > bytes || size > bytes - begin)
            return refuse(j, "tensor %d lies outside its place; write the file again", (int)i);
        for (; end < begin; end++)
            if (p->file[end]) return refuse(j, "before tensor %d lies what is not 0", (int)i);
        end = begin + size;
    }
    return end == bytes || refuse(j, "behind the tensors lie further bytes; write the file again");
}

typedef struct {
    judge *judge;
    ls_program *program;
    const node *node;
    int32_t number;
} place; /* of the checked part */

static int wrong(const place *at, const char *what) {
    int32_t shown = at->node->path.bytes < 60 ? at->node->path.bytes : 60;
    return refuse(at->judge, "node %d (%.*s): %s; write the file again", (int)at->number, (int)shown,
                  at->node->path.at, what);
}

static const tensor *tensor_of(const place *at, int32_t number, const char *name) {
    if (number >= 0 && number < at->program->tensors) return at->program->tensor + number;
    char what[60];
    snprintf(what, sizeof what, "its %s is tensor %d of %d", name, (int)number,
             (int)at->program->tensors);
    wrong(at, what);
    return NULL;
}

static const float *floats(const ls_program *p, int32_t number) {
    return (const float *)(const void *)(p->file + p->tensor[number].offset);
}

static int all_finite(const float *values, int64_t count) {
    int right = 1;
    for (int64_t i = 0; i < count; i++) right &= fabsf(values[i]) <= FLT_MAX;
    return right;
}

/* Checks a table [S, O] of finite numbers; returns S, or 0. */
static int32_t rows_of_table(const place *at, int32_t number, const char *name) {
    const tensor *t = tensor_of(at, number, name);
    if (!t) return 0;
    int right = t->type == LS_F32 && t->axes == 2 && t->shape[1] == at->node->made.channels &&
                (t->shape[0] == 1 || t->shape[0] == at->program->timesteps);
    if (!right || !all_finite(floats(at->program, number), t->entries))
        return wrong(at, "scale or shift is no table [1 or T, outputs] of finite numbers");
    return (int32_t)t->shape[0];
}

static int check_weights(const place *at, synapse *s, const tensor *t) {
    const char *bytes = at->program->file + t->offset;
    s->rows = bytes;
    if (t->type == LS_F32)
        return all_finite((const float *)(const void *)bytes, t->entries) ||
               wrong(at, "has weights that are not finite");
    int32_t largest = 0, most = t->type == LS_I8 ? 127 : 31;
    for (int64_t i = 0; i < t->entries; i++) {
        int32_t weight = (signed char)bytes[i], size = weight < 0 ? -weight : weight;
        if (size > largest) largest = size;
    }
    s->add_at_once = largest <= 31 ? 4 : largest <= 63 ? 2 : 1;
    return largest <= most || wrong(at, "has weights above those of their type");
}

/* Returns whether an axis of the output is as long as a window makes it. */
static int fits(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
                int64_t dilation) {
    int64_t reach = dilation * (kernel - 1) + 1;
    if (stride < 1 || dilation < 1 || kernel < 1 || reach > in + 2 * padding) return 0;
    return (in + 2 * padding - reach) / stride + 1 == out;
}

/* Returns the most events of a row of pixels. */
static int64_t row_events(const edge *e) { return (int64_t)e->width * words(e) * 64 * e->most; }

static int check_window(const place *at, const synapse *s, const edge *in) {
    const edge *out = &at->node->made;
    int right = fits(in->height, out->height, s->kernel[0], s->stride[0], s->padding[0], s->dilation[0]) &&
                fits(in->width, out->width, s->kernel[1], s->stride[1], s->padding[1], s->dilation[1]);
    if (!right) return wrong(at, "does not make its shape of what it reads");
    double events = (double)s->kernel[0] * s->kernel[1] * s->channels * in->most;
    return (events <= MOST_EVENTS && (double)row_events(in) <= INT32_MAX) ||
           wrong(at, "adds up more than 2^24 events");
}

/* Turns a linear synapse into a convolution whose kernel is as large as the image. */
static void as_convolution(synapse *s, const edge *in) {
    s->kernel[0] = in->height, s->kernel[1] = in->width;
    s->groups = s->stride[0] = s->stride[1] = s->dilation[0] = s->dilation[1] = 1;
    s->padding[0] = s->padding[1] = 0;
    s->channels = in->channels;
}

static int check_kernel(const place *at, synapse *s, const edge *in) {
    const tensor *t = tensor_of(at, s->weights, "weights");
    if (!t) return 0;
    if (t->axes != 4) return wrong(at, "has weights of other than four axes");
    if (t->type != LS_F32 && in->form == ANALOG)
        return wrong(at, "reads analog values with whole weights");
    if (s->kind == LINEAR) {
        as_convolution(s, in);
        int64_t entries = (int64_t)in->height * in->width * in->channels;
        if (t->shape[0] != 1 || t->shape[1] != 1 || t->shape[2] != entries)
            return wrong(at, "has linear weights that are not [1, 1, inputs, outputs]");
    } else {
        s->kernel[0] = (int32_t)t->shape[0], s->kernel[1] = (int32_t)t->shape[1];
        if (s->groups < 1 || in->channels % s->groups || at->node->made.channels % s->groups)
            return wrong(at, "has groups that its channels cannot be parted into");
        s->channels = in->channels / s->groups;
        if (t->shape[2] != s->channels)
            return wrong(at, "has weights for another number of channels");
    }
    if (t->shape[3] != at->node->made.channels)
        return wrong(at, "has weights for another number of outputs");
    return check_window(at, s, in) && check_weights(at, s, t);
}

static int check_same(const place *at, synapse *s, const edge *in) {
    const edge *out = &at->node->made;
    if (s->weights != -1) return wrong(at, "has weights where it adds what it reads");
    as_convolution(s, in);
    return (in->height == out->height && in->width == out->width && in->channels == out->channels) ||
           wrong(at, "adds an edge of another shape");
}

static const edge *edge_of(const place *at, int32_t number) {
    if (number <= at->number) return at->program->edge + number;
    wrong(at, "reads an edge that comes later");
    return NULL;
}

static int check_neuron(const place *at) {
    const node *n = at->node;
    int64_t entries = (int64_t)n->made.height * n->made.width * n->made.channels;
    for (int32_t leaks = 0; leaks < 2; leaks++) {
        int32_t number = leaks ? n->leak : n->threshold;
        const tensor *t = tensor_of(at, number, leaks ? "leak" : "threshold");
        if (!t) return 0;
        if (t->type != LS_F32 || t->axes != 1 ||
            (t->entries != 1 && t->entries != n->made.channels && t->entries != entries))
            return wrong(at, "has neither one leak and threshold nor one for each channel or neuron");
        const float *values = floats(at->program, number);
        if (!all_finite(values, t->entries)) return wrong(at, "has a leak or threshold that is not finite");
        for (int64_t i = 0; i < t->entries; i++)
            if (leaks ? !(values[i] >= 0 && values[i] <= 1) : !(values[i] > 0))
                return wrong(at, "has a leak outside [0, 1] or a threshold that is not above 0");
    }
    return 1;
}

static int check_layer(const place *at, edge *made) {
    const node *n = at->node;
    ls_program *p = at->program;
    node *writable = p->node + at->number;
    if (n->count < 1) return wrong(at, "reads nothing");
    writable->rows_of_shift = rows_of_table(at, n->shift, "shift");
    if (!writable->rows_of_shift) return 0;
    int32_t single = n->rows_of_shift == 1;
    made->is_static = !n->has_neuron;
    for (int32_t i = n->first; i < n->first + n->count; i++) {
        synapse *s = p->synapse + i;
        const edge *in = edge_of(at, s->edge);
        if (!in || !(s->kind == SAME ? check_same(at, s, in) : check_kernel(at, s, in))) return 0;
        s->rows_of_scale = rows_of_table(at, s->scale, "scale");
        if (!s->rows_of_scale) return 0;
        single = single && s->rows_of_scale == 1;
        made->is_static = made->is_static && in->is_static;
    }
    made->is_static = made->is_static && single;
    if (!single) p->most_steps = p->timesteps;
    if (made->form != (n->has_neuron ? SPIKES : ANALOG))
        return wrong(at, "has another form than spikes with a neuron, analog without");
    return !n->has_neuron || check_neuron(at);
}

static int check_pool(const place *at, const edge *in, edge *made) {
    const node *n = at->node;
    const int32_t *k = n->pair, *s = n->stride, *p = n->padding;
    if (n->paddings != 2 || k[0] < 1 || k[1] < 1 || p[0] > k[0] / 2 || p[1] > k[1] / 2 ||
        !fits(in->height, made->height, k[0], s[0], p[0], 1) ||
        !fits(in->width, made->width, k[1], s[1], p[1], 1) || in->channels != made->channels)
        return wrong(at, "does not make its shape of what it reads");
    if (n->kind == MAX_POOL)
        return (in->form == made->form && in->form != COUNTS) ||
               wrong(at, "takes the maximum of spikes or analog values only, and makes the like");
    if (made->form != (in->form == ANALOG ? ANALOG : COUNTS))
        return wrong(at, "has another form than the sum of what it reads");
    double under = (double)k[0] * k[1] * in->most;
    if (in->form != ANALOG && under > MOST_COUNT) return wrong(at, "counts beyond 255");
    made->most = in->form == ANALOG ? 1 : (int32_t)under;
    return 1;
}

static int check_concat(const place *at, edge *made) {
    const node *n = at->node;
    int64_t channels = 0;
    made->is_static = 1;
    for (int32_t i = n->first; i < n->first + n->count; i++) {
        const edge *in = edge_of(at, at->program->input[i]);
        if (!in) return 0;
        if (in->form != made->form || in->height != made->height || in->width != made->width)
            return wrong(at, "joins edges of other forms or sizes");
        made->is_static = made->is_static && in->is_static;
        if (in->most > made->most) made->most = in->most;
        channels += in->channels;
    }
    return channels == made->channels || wrong(at, "does not make its shape of what it reads");
}

static int check_moved(const place *at, const edge *in, const edge *made) {
    const node *n = at->node;
    const int32_t *p = n->padding, *f = n->pair;
    int64_t h = in->height, w = in->width, c = in->channels;
    int right = in->form == made->form;
    if (n->kind == RELABEL) right = right && h * w * c == (int64_t)made->height * made->width * made->channels;
    else {
        if (n->kind == PAD) right = right && n->paddings == 4, h += (int64_t)p[0] + p[1], w += (int64_t)p[2] + p[3];
        else right = right && f[0] > 0 && f[1] > 0, h *= f[0], w *= f[1];
        right = right && h == made->height && w == made->width && c == made->channels;
    }
    return right || wrong(at, "does not make its shape of what it reads");
}

static int check_node(const place *at, edge *made) {
    const node *n = at->node;
    *made = n->made;
    made->most = 1;
    if (n->kind == LAYER) return check_layer(at, made);
    if (n->kind == CONCAT) return check_concat(at, made);
    const edge *in = edge_of(at, at->program->input[n->first]);
    if (!in) return 0;
    made->is_static = in->is_static, made->most = in->most;
    if (n->kind == MAX_POOL || n->kind == SUM_POOL) return check_pool(at, in, made);
    return check_moved(at, in, made);
}

static int check_program(ls_program *p, judge *j, size_t bytes) {
    if (!check_tensors(p, j, bytes)) return 0;
    if (p->timesteps < 1 || p->timesteps > MOST_STEPS)
        return refuse(j, "timesteps is %d; a file has 1 to %d", (int)p->timesteps, (int)MOST_STEPS);
    int32_t means = p->mean.count, channels = p->edge->channels;
    if (!p->mean.at != !p->std.at || means != p->std.count || (p->mean.at && means != channels))
        return refuse(j, "mean and std are not one each for %d channels; write the file again", (int)channels);
    p->edge[0].form = ANALOG, p->edge[0].most = 1;
    p->most_steps = INT32_MAX;
    for (int32_t k = 0; k < p->nodes; k++) {
        place at = {j, p, p->node + k, k};
        if (!check_node(&at, p->edge + k + 1)) return 0;
    }
    const edge *out = p->edge + (p->output < p->edges ? p->output : 0);
    if (p->output >= p->edges || out->form != ANALOG || out->height != 1 || out->width != 1)
        return refuse(j, "the output, edge %d, is no analog vector; write the file again", (int)p->output);
    return 1;
}

static size_t tables_room(const void *file, size_t bytes, judge *j, ls_program *counted) {
    memory m = begin_memory(NULL);
    memset(counted, 0, sizeof *counted);
    if (!check_prefix(j, file, bytes) || !read_header(counted, file, j)) return 0;
    lay_out_tables(counted, &m);
    size_t room = room_for(&m);
    if (!room) refuse(j, "the file has more tables than memory can hold");
    return room;
}

size_t ls_program_room(const void *file, size_t bytes, char message[LS_MESSAGE]) {
    judge j = {message, 0};
    ls_program counted;
    return tables_room(file, bytes, &j, &counted);
}

ls_program *ls_open(const void *file, size_t bytes, void *given, size_t room, char message[LS_MESSAGE]) {
    judge j = {message, 0};
    ls_program counted;
    size_t needed = tables_room(file, bytes, &j, &counted);
    if (!needed) return NULL;
    if (!given || room < needed) {
        refuse(&j, "the program needs %lu bytes and was given %lu", (unsigned long)needed,
               (unsigned long)room);
        return NULL;
    }
    memory m = begin_memory(given);
    ls_program *program = lay_out_tables(&counted, &m);
    program->file = file;
    if (!read_header(program, file, &j) || !check_program(program, &j, bytes)) return NULL;
    return program;
}

ls_facts ls_about(const ls_program *p) {
    ls_facts facts;
    facts.timesteps = p->timesteps, facts.most_steps = p->most_steps;
    facts.height = p->edge->height, facts.width = p->edge->width, facts.channels = p->edge->channels;
    facts.outputs = p->edge[p->output].channels;
    facts.static_input = p->edge->is_static, facts.mean_readout = p->mean_readout;
    facts.nodes = p->nodes;
    return facts;
}

/* Returns a reader before part `number` of a list that was found before. */
static reader in_list(const ls_program *p, const list *of, int32_t number, char message[LS_MESSAGE]) {
    reader r;
    memset(&r, 0, sizeof r);
    r.judge.message = message;
    r.begin = r.at = of->at;
    r.end = p->file + PREFIX + little(p->file + 12, 4);
    for (int32_t i = 0; i < number; i++) {
        if (of == &p->classes) read_text(&r);
        else read_number(&r);
        expect(&r, ',');
    }
    return r;
}

int ls_mean_and_std(const ls_program *p, int32_t channel, float *mean, float *std) {
    char message[LS_MESSAGE];
    if (channel < 0 || channel >= p->mean.count) return 0;
    reader means = in_list(p, &p->mean, channel, message), stds = in_list(p, &p->std, channel, message);
    *mean = (float)read_number(&means), *std = (float)read_number(&stds);
    return 1;
}

ls_text ls_class(const ls_program *p, int32_t number) {
    char message[LS_MESSAGE];
    ls_text name = {"", 0};
    if (number < 0 || number >= p->classes.count) return name;
    reader r = in_list(p, &p->classes, number, message);
    return read_text(&r);
}

ls_node_facts ls_about_node(const ls_program *p, int32_t number) {
    const node *n = p->node + number;
    ls_node_facts facts = {n->path, kinds[n->kind], forms[n->made.form],
                           n->made.height, n->made.width, n->made.channels};
    return facts;
}

/* ---- Plain leaves; those of sums also work on rows of the file, shorter than a block ---- */

static int32_t list_plain(const uint64_t *bits, int32_t pixels, int32_t words, int32_t *first,
                          uint16_t *index) {
    int32_t found = first[0];
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t w = 0; w < words; w++) {
            uint64_t rest = bits[(int64_t)p * words + w];
            for (int32_t c = w * 64; rest; c++, rest >>= 1)
                if (rest & 1) index[found++] = (uint16_t)c;
        }
        first[p + 1] = found;
    }
    return found;
}

static void add_rows_i8(int32_t *sums, const ls_tap *taps, int32_t n, int32_t lanes) {
    for (int32_t t = 0; t < n; t++)
        for (int32_t i = 0; i < taps[t].count; i++) {
            const int8_t *row = (const int8_t *)taps[t].rows + (int64_t)taps[t].index[i] * taps[t].stride;
            for (int32_t k = 0; k < lanes; k++) sums[k] += row[k];
        }
}

static void add_rows_f32(float *sums, const ls_tap *taps, int32_t n, int32_t lanes) {
    for (int32_t t = 0; t < n; t++)
        for (int32_t i = 0; i < taps[t].count; i++) {
            const void *at = (const char *)taps[t].rows + (int64_t)taps[t].index[i] * taps[t].stride;
            const float *row = at;
            for (int32_t k = 0; k < lanes; k++) sums[k] += row[k];
        }
}

static void multiply_rows(float *sums, const float *x, const float *rows, int32_t n, int32_t lanes,
                          int64_t stride) {
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < lanes; k++) sums[k] += x[i] * rows[i * stride + k];
}

static void add_i8_plain(int32_t sums[LS_BLOCK], const ls_tap *taps, int32_t n, int32_t group) {
    (void)group;
    add_rows_i8(sums, taps, n, LS_BLOCK);
}

static void add_f32_plain(float sums[LS_BLOCK], const ls_tap *taps, int32_t n) {
    add_rows_f32(sums, taps, n, LS_BLOCK);
}

static void multiply_plain(float sums[LS_BLOCK], const float *x, const float *rows, int32_t n) {
    multiply_rows(sums, x, rows, n, LS_BLOCK, LS_BLOCK);
}

static void scale_i32_plain(float current[LS_BLOCK], const int32_t sums[LS_BLOCK], const float *scale) {
    for (int32_t k = 0; k < LS_BLOCK; k++) current[k] += scale[k] * (float)sums[k];
}

static void scale_f32_plain(float current[LS_BLOCK], const float sums[LS_BLOCK], const float *scale) {
    for (int32_t k = 0; k < LS_BLOCK; k++) current[k] += scale[k] * sums[k];
}

static uint64_t fire_plain(const ls_neuron *n, const float current[LS_BLOCK], float membrane[LS_BLOCK]) {
    uint64_t fired = 0;
    for (int32_t k = 0; k < LS_BLOCK; k++) {
        float last = membrane[k], v = n->threshold[k];
        float u = n->leak[k] * last + current[k];
        if (n->reset == LS_UNDECAYED && last > v) u -= v;
        int fires = u > v;
        if (fires && n->reset == LS_SOFT) u -= v;
        if (fires && n->reset == LS_HARD) u = 0;
        if (n->floor > 0 && u < -n->floor * v) u = -n->floor * v;
        membrane[k] = u;
        fired |= (uint64_t)fires << k;
    }
    return fired;
}

static const ls_kernels plain = {
    .list = list_plain,
    .add_i8 = add_i8_plain,
    .add_f32 = add_f32_plain,
    .multiply_f32 = multiply_plain,
    .scale_i32 = scale_i32_plain,
    .scale_f32 = scale_f32_plain,
    .fire = fire_plain,
};

const ls_kernels *ls_plain_kernels(void) { return &plain; }

/* ---- Packed weights: [blocks, taps, channels, LS_BLOCK], 0 in lanes without an output ---- */

static int32_t blocks(const edge *made) { return (made->channels + LS_BLOCK - 1) / LS_BLOCK; }

static int64_t taps_of(const synapse *s) { return (int64_t)s->kernel[0] * s->kernel[1]; }

static int32_t size_of_weight(const ls_program *p, const synapse *s) {
    return p->tensor[s->weights].type == LS_F32 ? (int32_t)sizeof(float) : 1;
}

static void pack(const char *rows, char *packed, int64_t count, int64_t outputs, int64_t size) {
    for (int64_t begin = 0; begin < outputs; begin += LS_BLOCK)
        for (int64_t row = 0; row < count; row++, packed += LS_BLOCK * size) {
            int64_t lanes = outputs - begin < LS_BLOCK ? outputs - begin : LS_BLOCK;
            memset(packed, 0, (size_t)(LS_BLOCK * size));
            memcpy(packed, rows + (row * outputs + begin) * size, (size_t)(lanes * size));
        }
}

static ls_rows rows_of(const ls_program *p, const synapse *s, const edge *made) {
    ls_rows found = {s->rows, p->tensor[s->weights].type, (int32_t)taps_of(s), s->channels, made->channels};
    return found;
}

/* Returns the bytes of a synapse's weights for leaves that do whole layers, or 0 if these refuse it. */
static size_t whole_room(const ls_program *p, const ls_kernels *kernels, const synapse *s, const edge *made) {
    if (!kernels->pack_room || made->is_static || s->kind == SAME || s->groups != 1) return 0;
    if (p->edge[s->edge].form == COUNTS || s->dilation[0] != 1 || s->dilation[1] != 1) return 0;
    if (taps_of(s) > INT32_MAX) return 0;
    ls_rows rows = rows_of(p, s, made);
    return kernels->pack_room(&rows);
}

static void pack_layer(ls_program *p, const ls_kernels *kernels, const node *n, memory *m) {
    for (int32_t i = n->first; i < n->first + n->count; i++) {
        synapse *s = p->synapse + i;
        if (s->kind == SAME || s->groups != 1) continue;
        size_t room = whole_room(p, kernels, s, &n->made);
        if (room) {
            void *whole = take(m, room, 1);
            ls_rows rows = rows_of(p, s, &n->made);
            if (whole) kernels->pack(&rows, whole);
            if (whole) s->whole = whole, s->packed = NULL;
            continue;
        }
        int64_t count = taps_of(s) * s->channels, size = size_of_weight(p, s);
        char *packed = take(m, (uint64_t)(count * blocks(&n->made)), (uint64_t)(LS_BLOCK * size));
        if (!packed) continue;
        pack(s->rows, packed, count, n->made.channels, size);
        s->packed = packed, s->whole = NULL;
    }
}

static size_t pack_all(ls_program *p, const ls_kernels *kernels, memory *m) {
    for (int32_t k = 0; k < p->nodes; k++)
        if (p->node[k].kind == LAYER) pack_layer(p, kernels, p->node + k, m);
    return room_for(m);
}

size_t ls_pack_room(const ls_program *program, const ls_kernels *kernels) {
    memory m = begin_memory(NULL);
    ls_program copy = *program; /* only measured: nothing is written */
    return pack_all(&copy, kernels, &m);
}

int ls_pack(ls_program *program, const ls_kernels *kernels, void *given, size_t room) {
    if (!given || room < ls_pack_room(program, kernels)) return -1;
    memory m = begin_memory(given);
    pack_all(program, kernels, &m);
    program->kernels = kernels;
    return 0;
}

/* ---- States ---- */

typedef struct {
    char *data; /* all steps of a chunk, or one step of a static edge */
    int64_t step; /* bytes from step to step; 0 for a static edge */
} values;

typedef struct {
    const float *scale; /* [rows, whole blocks] */
    float *sums;        /* static synapse: [pixels, whole blocks] */
    uint16_t *index;    /* others: the events of each step and row of pixels, */
    int32_t *first;     /* and by groups, where those of each pixel begin and end */
} listed;

typedef struct {
    const float *shift, *leak, *threshold; /* whole blocks */
    int64_t per_pixel;                     /* of leak and threshold from one pixel to the next: */
    int64_t threshold_per_pixel;
    float *membrane; /* [pixels, whole blocks] */
    float *current;  /* of leaves that do a whole layer: [steps, pixels, whole blocks], or of a static input
                        [pixels, whole blocks], which stays */
    int64_t current_step;
    char *scratch;   /* of each piece of a layer, */
    int64_t piece;   /* so many bytes */
} remembered;

struct ls_state {
    const ls_program *program;
    const ls_kernels *kernels;
    int32_t steps, next;  /* the most steps of a chunk; the next step */
    int32_t first, count; /* the steps of the present call */
    values *edge;
    listed *synapse;
    remembered *node;
    float *logits; /* of one step */
    const ls_team *team;
    ls_count *counts;
    double (*now)(void);
};

static int64_t padded(const edge *made) { return (int64_t)blocks(made) * LS_BLOCK; }

/* Returns rows of whole blocks. Shorter rows of the file are copied and filled up. */
static const float *whole_rows(memory *m, const float *rows, int64_t count, const edge *made, float fill) {
    int64_t length = made->channels, wanted = padded(made);
    if (length == wanted) return rows;
    float *found = take(m, (uint64_t)(count * wanted), sizeof(float));
    for (int64_t r = 0; found && r < count; r++)
        for (int64_t k = 0; k < wanted; k++)
            found[r * wanted + k] = k < length ? rows[r * length + k] : fill;
    return found;
}

/* Returns leaks or thresholds as one row for the layer or one for each pixel; sets the pixels' distance. */
static const float *spread(memory *m, const ls_program *p, int32_t number, const edge *made, float fill,
                           int64_t *per_pixel) {
    const float *given = floats(p, number);
    int64_t entries = p->tensor[number].entries, rows = entries / made->channels;
    *per_pixel = entries > made->channels ? padded(made) : 0;
    if (entries > 1 || made->channels == 1) return whole_rows(m, given, rows, made, fill);
    float *found = take(m, (uint64_t)padded(made), sizeof(float));
    for (int64_t k = 0; found && k < padded(made); k++) found[k] = k < made->channels ? *given : fill;
    return found;
}

/* Returns whether a layer's current is the same at each step and one leaf computes it. */
static int stays(const ls_program *p, const node *n) {
    const synapse *s = p->synapse + n->first;
    return n->count == 1 && n->has_neuron && s->whole && p->edge[s->edge].is_static &&
           s->rows_of_scale == 1 && n->rows_of_shift == 1;
}

/* Returns whether leaves for whole layers do at least a part of the layer. */
static int is_whole(const ls_program *p, const node *n) {
    for (int32_t i = n->first; i < n->first + n->count; i++)
        if (p->synapse[i].whole) return 1;
    return 0;
}

static remembered lay_out_node(memory *m, const ls_program *p, const node *n) {
    remembered found = {NULL, NULL, NULL, 0, 0, NULL, NULL, 0, NULL, 0};
    found.shift = whole_rows(m, floats(p, n->shift), n->rows_of_shift, &n->made, 0);
    if (!n->has_neuron) return found;
    found.leak = spread(m, p, n->leak, &n->made, 0, &found.per_pixel);
    found.threshold = spread(m, p, n->threshold, &n->made, 1, &found.threshold_per_pixel);
    found.membrane = take(m, (uint64_t)(pixels(&n->made) * padded(&n->made)), sizeof(float));
    if (stays(p, n)) found.current = take(m, (uint64_t)(pixels(&n->made) * padded(&n->made)), sizeof(float));
    return found;
}

static listed lay_out_synapse(memory *m, const ls_program *p, const synapse *s, const edge *made) {
    listed found = {NULL, NULL, NULL, NULL};
    found.scale = whole_rows(m, floats(p, s->scale), s->rows_of_scale, made, 0);
    if (p->edge[s->edge].is_static)
        found.sums = take(m, (uint64_t)(pixels(made) * padded(made)), sizeof(float));
    return found;
}

static int reads_events(const ls_program *p, const synapse *s) {
    return p->edge[s->edge].form != ANALOG && s->kind != SAME && !s->whole;
}

static values lay_out_edge(memory *m, const edge *e, int32_t steps) {
    values found;
    int64_t entries = pixels(e) * (e->form == SPIKES ? words(e) : e->channels);
    int64_t bytes = entries * (e->form == SPIKES ? 8 : e->form == ANALOG ? 4 : 1);
    found.step = e->is_static ? 0 : (int64_t)whole_lines((uint64_t)bytes);
    found.data = take(m, e->is_static ? 1 : (uint64_t)steps, whole_lines((uint64_t)bytes));
    return found;
}

/* Returns a call with its sizes set. */
static ls_events events_of(const ls_program *p, const synapse *s, const node *n, int32_t steps) {
    const edge *in = p->edge + s->edge;
    ls_events e;
    memset(&e, 0, sizeof e);
    e.height = in->height, e.width = in->width, e.channels = in->channels, e.outputs = n->made.channels;
    for (int32_t axis = 0; axis < 2; axis++) {
        e.kernel[axis] = s->kernel[axis];
        e.stride[axis] = s->stride[axis];
        e.padding[axis] = s->padding[axis];
    }
    e.out_width = n->made.width;
    e.type = p->tensor[s->weights].type, e.packed = s->whole;
    e.neurons.steps = steps, e.neurons.blocks = blocks(&n->made), e.neurons.reset = n->reset;
    return e;
}

/* Returns whether a layer's currents are its values, as they lie. */
static int is_plain(const node *n) {
    return !n->has_neuron && !n->made.is_static && n->made.channels == padded(&n->made);
}

/* Lays out the current and the scratch of a layer that leaves do as a whole, and whose values are given. */
static void lay_out_whole(memory *m, const ls_program *p, int32_t steps, const node *n, values made,
                          remembered *kept) {
    uint64_t cells = (uint64_t)(pixels(&n->made) * padded(&n->made));
    int32_t last = n->first + n->count - 1;
    int fused = n->count == 1 && n->has_neuron && p->edge[p->synapse[last].edge].form == SPIKES;
    int own = !fused && !stays(p, n) && !is_plain(n);
    float *current = own ? take(m, cells * (uint64_t)steps, sizeof(float)) : NULL;
    if (is_plain(n)) kept->current = (float *)(void *)made.data, kept->current_step = made.step / 4;
    else if (!stays(p, n)) kept->current = current, kept->current_step = (int64_t)cells;
    size_t most = 0;
    for (int32_t i = n->first; i <= last; i++) {
        const synapse *s = p->synapse + i;
        if (!s->whole || p->edge[s->edge].form != SPIKES) continue;
        for (int32_t taken = 1; taken <= steps; taken++) /* fewer may need more: tiles have other sizes */
            for (int32_t pieces = 1; pieces <= MOST_PIECES; pieces += MOST_PIECES - 1) {
                ls_events e = events_of(p, s, n, taken);
                e.bottom = (n->made.height + pieces - 1) / pieces;
                size_t room = p->kernels->events_room(&e) / (pieces == 1 ? MOST_PIECES : 1) + LINE;
                if (room > most) most = room;
            }
    }
    kept->piece = (int64_t)whole_lines(most);
    kept->scratch = take(m, (uint64_t)kept->piece, MOST_PIECES);
}

/* Lays out the events, behind all else. All layers share one place. */
static void lay_out_events(memory *m, const ls_program *p, int32_t steps, ls_state *state) {
    uint64_t most = m->used;
    for (int32_t k = 0; k < p->nodes; k++) {
        memory layer = *m;
        int32_t first = p->node[k].first, count = p->node[k].kind == LAYER ? p->node[k].count : 0;
        for (int32_t i = first; i < first + count; i++) {
            const synapse *s = p->synapse + i;
            const edge *in = p->edge + s->edge;
            if (!reads_events(p, s)) continue;
            uint64_t rows = (uint64_t)steps * (uint64_t)in->height, groups = (uint64_t)s->groups;
            uint16_t *index = take(&layer, rows * (uint64_t)row_events(in), sizeof *index);
            int32_t *begins = take(&layer, rows * groups * ((uint64_t)in->width + 1), sizeof *begins);
            if (m->base) state->synapse[i].index = index, state->synapse[i].first = begins;
        }
        if (count && is_whole(p, p->node + k)) {
            remembered spare = {NULL, NULL, NULL, 0, 0, NULL, NULL, 0, NULL, 0};
            values made = {NULL, 0};
            if (m->base) made = state->edge[k + 1];
            lay_out_whole(&layer, p, steps, p->node + k, made, m->base ? state->node + k : &spare);
        }
        if (layer.used > most) most = layer.used;
    }
    m->used = most;
}

static void lay_out_parts(memory *m, const ls_program *p, int32_t steps, ls_state *state) {
    for (int32_t e = 0; e < p->edges; e++) {
        /* An input that changes with time is read from the caller's memory. */
        values found = lay_out_edge(m, p->edge + e, e > 0 || p->edge->is_static ? steps : 0);
        if (m->base) state->edge[e] = found;
    }
    for (int32_t k = 0; k < p->nodes; k++) {
        const node *n = p->node + k;
        if (n->kind != LAYER) continue;
        remembered kept = lay_out_node(m, p, n);
        if (m->base) state->node[k] = kept;
        for (int32_t i = n->first; i < n->first + n->count; i++) {
            listed found = lay_out_synapse(m, p, p->synapse + i, &n->made);
            if (m->base) state->synapse[i] = found;
        }
    }
    lay_out_events(m, p, steps, state);
}

/* Lays out a state. Without memory, the records are in `spare`, and bytes are only counted. */
static ls_state *lay_out_state(memory *m, const ls_program *p, int32_t steps, ls_state *spare) {
    ls_state *s = take(m, 1, sizeof *s);
    if (!s) s = spare;
    memset(s, 0, sizeof *s);
    s->program = p, s->steps = steps;
    s->kernels = p->kernels ? p->kernels : &plain;
    s->edge = take(m, (uint64_t)p->edges, sizeof(values));
    s->synapse = take(m, (uint64_t)p->synapses, sizeof(listed));
    s->node = take(m, (uint64_t)p->nodes, sizeof(remembered));
    s->logits = take(m, (uint64_t)p->edge[p->output].channels, sizeof(float));
    lay_out_parts(m, p, steps, s);
    return s;
}

size_t ls_state_room(const ls_program *program, int32_t steps) {
    memory m = begin_memory(NULL);
    ls_state spare;
    if (steps < 1 || steps > MOST_STEPS) return 0;
    for (int32_t e = 0; e < program->edges; e++) /* int32 counts the rows of all steps */
        if ((int64_t)program->edge[e].height * steps > INT32_MAX) return 0;
    lay_out_state(&m, program, steps, &spare);
    return room_for(&m);
}

ls_state *ls_begin(const ls_program *program, int32_t steps, void *given, size_t room) {
    size_t needed = ls_state_room(program, steps);
    if (!needed || !given || room < needed) return NULL;
    memory m = begin_memory(given);
    return lay_out_state(&m, program, steps, NULL);
}

void ls_watch(ls_state *state, ls_count *counts, double (*now)(void)) {
    state->counts = counts, state->now = now;
}

void ls_share(ls_state *state, const ls_team *team) { state->team = team; }

static void share(const ls_state *s, int64_t pieces, void (*work)(void *, int32_t), void *data) {
    if (s->team) s->team->share(s->team->self, (int32_t)pieces, work, data);
    else
        for (int32_t piece = 0; piece < pieces; piece++) work(data, piece);
}

static char *at_step(const ls_state *s, int32_t number, int32_t t) {
    return s->edge[number].data + t * s->edge[number].step;
}

/* ---- Layers ---- */

typedef struct {
    const ls_state *state;
    const node *node;
    int32_t number, synapse; /* the node and the synapse whose work is shared out */
} layer_task;

/* Lists the events of one row of pixels at one step. */
static void list_counts(const uint8_t *entries, const edge *in, int32_t from, int32_t channels,
                        int32_t *first, uint16_t *index) {
    int32_t found = first[0];
    for (int32_t x = 0; x < in->width; x++) {
        const uint8_t *pixel = entries + (int64_t)x * in->channels + from;
        for (int32_t c = 0; c < channels; c++)
            for (int32_t n = 0; n < pixel[c]; n++) index[found++] = (uint16_t)c;
        first[x + 1] = found;
    }
}

static void list_group(const uint64_t *bits, const edge *in, int32_t from, int32_t channels,
                       int32_t *first, uint16_t *index) {
    int32_t found = first[0];
    for (int32_t x = 0; x < in->width; x++) {
        const uint64_t *pixel = bits + (int64_t)x * words(in);
        for (int32_t c = from; c < from + channels; c++)
            if (pixel[c / 64] >> c % 64 & 1) index[found++] = (uint16_t)(c - from);
        first[x + 1] = found;
    }
}

static void list_row(void *data, int32_t piece) {
    const layer_task *task = data;
    const ls_program *p = task->state->program;
    const synapse *s = p->synapse + task->synapse;
    const listed *of = task->state->synapse + task->synapse;
    const edge *in = p->edge + s->edge;
    int32_t t = piece / in->height, y = piece % in->height;
    int64_t row_bytes = (int64_t)in->width * (in->form == SPIKES ? 8 * words(in) : in->channels);
    const void *row = at_step(task->state, s->edge, t) + y * row_bytes;
    uint16_t *index = of->index + piece * row_events(in);
    int32_t *first = of->first + (int64_t)piece * s->groups * (in->width + 1);
    first[0] = 0;
    if (in->form == SPIKES && s->groups == 1) {
        task->state->kernels->list(row, in->width, words(in), first, index);
        return;
    }
    for (int32_t g = 0; g < s->groups; g++, first += in->width + 1) {
        if (g > 0) first[0] = first[-1];
        if (in->form == COUNTS) list_counts(row, in, g * s->channels, s->channels, first, index);
        else list_group(row, in, g * s->channels, s->channels, first, index);
    }
}

/* The sums of a synapse for a block of outputs at one pixel and step. */
typedef struct {
    const layer_task *task;
    const synapse *synapse;
    const listed *listed;
    const edge *in;
    int32_t y, x, t, block;
    int32_t lane, lanes, group; /* outputs of one group within the block */
    int32_t is_float, taps;
    float sums[LS_BLOCK];
    int32_t whole_sums[LS_BLOCK];
    ls_tap tap[TAPS];
} sum;

/* Returns the rows of weights at a tap, and sets their distance. */
static const void *rows_at(const sum *m, int64_t tap, int64_t *stride) {
    const synapse *s = m->synapse;
    int64_t outputs = m->task->node->made.channels, size = m->is_float ? (int64_t)sizeof(float) : 1;
    *stride = (s->packed ? LS_BLOCK : outputs) * size;
    if (s->packed) return s->packed + (m->block * taps_of(s) + tap) * s->channels * *stride;
    return s->rows + tap * s->channels * *stride + (m->block * (int64_t)LS_BLOCK + m->lane) * size;
}

static void flush(sum *m) {
    const ls_kernels *k = m->task->state->kernels;
    if (m->synapse->packed && m->is_float) k->add_f32(m->sums, m->tap, m->taps);
    else if (m->synapse->packed) k->add_i8(m->whole_sums, m->tap, m->taps, m->synapse->add_at_once);
    else if (m->is_float) add_rows_f32(m->sums + m->lane, m->tap, m->taps, m->lanes);
    else add_rows_i8(m->whole_sums + m->lane, m->tap, m->taps, m->lanes);
    m->taps = 0;
}

static void add_events_at(sum *m, int64_t tap, int64_t iy, int64_t ix) {
    int64_t row = (int64_t)m->t * m->in->height + iy, stride;
    const int32_t *first =
        m->listed->first + (row * m->synapse->groups + m->group) * (m->in->width + 1) + ix;
    if (first[0] == first[1]) return;
    ls_tap *found = m->tap + m->taps++;
    found->rows = rows_at(m, tap, &stride);
    found->stride = (int32_t)stride;
    found->index = m->listed->index + row * row_events(m->in) + first[0];
    found->count = first[1] - first[0];
    if (m->taps == TAPS) flush(m);
}

static void multiply_at(sum *m, int64_t tap, int64_t iy, int64_t ix) {
    const synapse *s = m->synapse;
    const void *step = at_step(m->task->state, s->edge, m->t);
    const float *x = (const float *)step + (iy * m->in->width + ix) * m->in->channels;
    int64_t stride;
    const float *rows = rows_at(m, tap, &stride);
    x += (int64_t)m->group * s->channels;
    if (s->packed) m->task->state->kernels->multiply_f32(m->sums, x, rows, s->channels);
    else multiply_rows(m->sums + m->lane, x, rows, s->channels, m->lanes, stride / (int64_t)sizeof(float));
}

static void add_taps(sum *m) {
    const synapse *s = m->synapse;
    for (int64_t ky = 0; ky < s->kernel[0]; ky++) {
        int64_t iy = (int64_t)m->y * s->stride[0] + ky * s->dilation[0] - s->padding[0];
        if (iy < 0 || iy >= m->in->height) continue;
        for (int64_t kx = 0; kx < s->kernel[1]; kx++) {
            int64_t ix = (int64_t)m->x * s->stride[1] + kx * s->dilation[1] - s->padding[1];
            if (ix < 0 || ix >= m->in->width) continue;
            if (m->in->form == ANALOG) multiply_at(m, ky * s->kernel[1] + kx, iy, ix);
            else add_events_at(m, ky * s->kernel[1] + kx, iy, ix);
        }
    }
    if (m->taps > 0) flush(m);
}

static int32_t lanes_of(const edge *made, int32_t block) {
    int32_t left = made->channels - block * LS_BLOCK;
    return left < LS_BLOCK ? left : LS_BLOCK;
}

static void add_weighted(sum *m) {
    const edge *made = &m->task->node->made;
    int32_t all = lanes_of(made, m->block), share = made->channels / m->synapse->groups;
    for (m->lane = 0; m->lane < all; m->lane += m->lanes) {
        int32_t output = m->block * LS_BLOCK + m->lane, left = share - output % share;
        m->group = output / share;
        m->lanes = left < all - m->lane ? left : all - m->lane;
        add_taps(m);
    }
}

static void add_same(sum *m) {
    const edge *in = m->in;
    const char *step = at_step(m->task->state, m->synapse->edge, m->t);
    int64_t pixel = (int64_t)m->y * in->width + m->x, begin = pixel * in->channels + m->block * LS_BLOCK;
    const uint64_t *bits = (const uint64_t *)(const void *)step + pixel * words(in) + m->block;
    const float *analog = (const float *)(const void *)step + begin;
    const uint8_t *counts = (const uint8_t *)step + begin;
    int32_t lanes = lanes_of(in, m->block);
    if (in->form == ANALOG) memcpy(m->sums, analog, (size_t)lanes * sizeof(float));
    else if (in->form == SPIKES)
        for (int32_t k = 0; k < lanes; k++) m->sums[k] = (float)(*bits >> k & 1);
    else
        for (int32_t k = 0; k < lanes; k++) m->sums[k] = (float)counts[k];
}

static void add_up(sum *m) {
    const ls_program *p = m->task->state->program;
    m->is_float = m->synapse->kind == SAME || p->tensor[m->synapse->weights].type == LS_F32;
    m->taps = 0;
    if (m->is_float) memset(m->sums, 0, sizeof m->sums);
    else memset(m->whole_sums, 0, sizeof m->whole_sums);
    if (m->synapse->kind == SAME) add_same(m);
    else add_weighted(m);
}

static sum begin_sum(const layer_task *task, int32_t block, int32_t y) {
    sum m;
    m.task = task, m.block = block, m.y = y, m.x = 0, m.t = 0, m.taps = 0;
    return m;
}

static void look_at(sum *m, int32_t number) {
    const ls_state *state = m->task->state;
    m->synapse = state->program->synapse + number;
    m->listed = state->synapse + number;
    m->in = state->program->edge + m->synapse->edge;
}

static int64_t block_of(const sum *m) {
    const edge *made = &m->task->node->made;
    return (((int64_t)m->y * made->width + m->x) * blocks(made) + m->block) * LS_BLOCK;
}

/* Computes a row of outputs of a static synapse, before the first step. */
static void add_up_static_row(void *data, int32_t piece) {
    const layer_task *task = data;
    const edge *made = &task->node->made;
    sum m = begin_sum(task, piece / made->height, piece % made->height);
    look_at(&m, task->synapse);
    for (; m.x < made->width; m.x++) {
        add_up(&m);
        memcpy(m.listed->sums + block_of(&m), m.sums, sizeof m.sums);
    }
}

static const float *row_of_table(const float *table, int32_t rows, int32_t step, const sum *m) {
    return table + (rows > 1 ? step * padded(&m->task->node->made) : 0) + m->block * LS_BLOCK;
}

static void current_of(sum *m, float current[LS_BLOCK]) {
    const ls_state *state = m->task->state;
    const node *n = m->task->node;
    int32_t step = state->first + m->t;
    const float *shift = state->node[m->task->number].shift;
    memcpy(current, row_of_table(shift, n->rows_of_shift, step, m), LS_BLOCK * sizeof(float));
    for (int32_t i = n->first; i < n->first + n->count; i++) {
        look_at(m, i);
        const float *scale = row_of_table(m->listed->scale, m->synapse->rows_of_scale, step, m);
        if (m->listed->sums) {
            state->kernels->scale_f32(current, m->listed->sums + block_of(m), scale);
            continue;
        }
        add_up(m);
        if (m->is_float) state->kernels->scale_f32(current, m->sums, scale);
        else state->kernels->scale_i32(current, m->whole_sums, scale);
    }
}

static void put(const sum *m, const float current[LS_BLOCK], const ls_neuron *neuron, float *membrane) {
    const ls_state *state = m->task->state;
    const edge *made = &m->task->node->made;
    int64_t pixel = (int64_t)m->y * made->width + m->x;
    void *step = at_step(state, m->task->number + 1, m->t);
    if (neuron) ((uint64_t *)step)[pixel * words(made) + m->block] = state->kernels->fire(neuron, current, membrane);
    else
        memcpy((float *)step + pixel * made->channels + m->block * LS_BLOCK, current,
               (size_t)lanes_of(made, m->block) * sizeof(float));
}

/* Computes a row of outputs of one block, at all steps of the call. */
static void run_row(void *data, int32_t piece) {
    const layer_task *task = data;
    const ls_state *state = task->state;
    const node *n = task->node;
    const remembered *of = state->node + task->number;
    int32_t steps = state->program->edge[task->number + 1].is_static ? 1 : state->count;
    sum m = begin_sum(task, piece / n->made.height, piece % n->made.height);
    for (; m.x < n->made.width; m.x++) {
        float current[LS_BLOCK], *membrane = n->has_neuron ? of->membrane + block_of(&m) : NULL;
        int64_t pixel = (int64_t)m.y * n->made.width + m.x, begin = m.block * LS_BLOCK;
        ls_neuron neuron = {NULL, NULL, n->floor, n->reset};
        if (membrane) {
            neuron.leak = of->leak + pixel * of->per_pixel + begin;
            neuron.threshold = of->threshold + pixel * of->threshold_per_pixel + begin;
        }
        for (int32_t k = 0; membrane && state->first == 0 && k < LS_BLOCK; k++)
            membrane[k] = n->initial * neuron.threshold[k];
        for (m.t = 0; m.t < steps; m.t++) {
            current_of(&m, current);
            put(&m, current, membrane ? &neuron : NULL, membrane);
        }
    }
}

/* ---- Layers that leaves do as a whole ---- */

static int32_t pieces_of(const ls_state *s, const edge *made) {
    if (!s->team) return 1;
    return made->height < MOST_PIECES ? made->height : MOST_PIECES;
}

static const float *from_step(const float *table, int32_t rows, const ls_state *state, const edge *made) {
    return table + (rows > 1 ? state->first * padded(made) : 0);
}

static ls_neurons neurons_of(const layer_task *task) {
    const ls_state *state = task->state;
    const node *n = task->node;
    const remembered *of = state->node + task->number;
    ls_neurons found;
    memset(&found, 0, sizeof found);
    found.leak = of->leak, found.threshold = of->threshold;
    found.leak_step = of->per_pixel, found.threshold_step = of->threshold_per_pixel;
    found.reset = n->reset, found.initial = n->initial, found.floor = n->floor, found.begin = state->first == 0;
    found.blocks = blocks(&n->made), found.steps = state->count;
    found.current = of->current, found.current_step = of->current_step, found.membrane = of->membrane;
    found.out = (uint64_t *)(void *)at_step(state, task->number + 1, 0);
    found.out_step = state->edge[task->number + 1].step / 8;
    return found;
}

static void begin_rows(const layer_task *task, int32_t piece, int32_t *top, int32_t *bottom) {
    int32_t height = task->node->made.height, pieces = pieces_of(task->state, &task->node->made);
    *top = (int32_t)((int64_t)piece * height / pieces);
    *bottom = (int32_t)(((int64_t)piece + 1) * height / pieces);
}

static void run_events(void *data, int32_t piece) {
    const layer_task *task = data;
    const ls_state *state = task->state;
    const node *n = task->node;
    const remembered *of = state->node + task->number;
    const synapse *s = state->program->synapse + task->synapse;
    int64_t step = padded(&n->made);
    ls_events e = events_of(state->program, s, n, state->count);
    begin_rows(task, piece, &e.top, &e.bottom);
    e.bits = (const uint64_t *)(const void *)at_step(state, s->edge, 0);
    e.bits_step = state->edge[s->edge].step / 8;
    e.scale = from_step(state->synapse[task->synapse].scale, s->rows_of_scale, state, &n->made);
    e.scale_step = s->rows_of_scale > 1 ? step : 0;
    e.add = task->synapse > n->first;
    if (!e.add) e.shift = from_step(of->shift, n->rows_of_shift, state, &n->made);
    e.shift_step = n->rows_of_shift > 1 ? step : 0;
    e.fire = n->has_neuron && task->synapse == n->first + n->count - 1;
    e.neurons = neurons_of(task);
    e.scratch = of->scratch + piece * of->piece;
    state->kernels->events(&e);
}

/* Computes an analog synapse: each step's current, or once for a static input the current or unscaled sums. */
static void run_dense(void *data, int32_t piece) {
    const layer_task *task = data;
    const ls_state *state = task->state;
    const node *n = task->node;
    const remembered *of = state->node + task->number;
    const synapse *s = state->program->synapse + task->synapse;
    int32_t is_static = state->program->edge[s->edge].is_static, scaled = !is_static || stays(state->program, n);
    ls_events e = events_of(state->program, s, n, 1);
    ls_dense d = {NULL, e.height, e.width, e.channels, e.outputs, {s->kernel[0], s->kernel[1]},
                  {s->stride[0], s->stride[1]}, {s->padding[0], s->padding[1]}, e.out_width, 0, 0, s->whole,
                  NULL, NULL, 0, e.neurons.blocks, NULL};
    begin_rows(task, piece, &d.top, &d.bottom);
    for (int32_t t = 0; t < (is_static ? 1 : state->count); t++) {
        d.image = (const float *)(const void *)at_step(state, s->edge, t);
        d.current = scaled ? of->current + t * of->current_step : state->synapse[task->synapse].sums;
        d.add = scaled && task->synapse > n->first;
        if (scaled) {
            int32_t row = state->first + t;
            d.scale = state->synapse[task->synapse].scale + (s->rows_of_scale > 1 ? row * padded(&n->made) : 0);
            d.shift = d.add ? NULL : of->shift + (n->rows_of_shift > 1 ? row * padded(&n->made) : 0);
        }
        state->kernels->dense(&d);
    }
}

/* Adds a synapse to the current of a row and block, by the leaves for one pixel. */
static void run_small(void *data, int32_t piece) {
    const layer_task *task = data;
    const ls_state *state = task->state;
    const node *n = task->node;
    const remembered *of = state->node + task->number;
    sum m = begin_sum(task, piece / n->made.height, piece % n->made.height);
    look_at(&m, task->synapse);
    for (; m.x < n->made.width; m.x++)
        for (m.t = 0; m.t < state->count; m.t++) {
            int32_t step = state->first + m.t;
            float *current = of->current + m.t * of->current_step + block_of(&m);
            const float *scale = row_of_table(m.listed->scale, m.synapse->rows_of_scale, step, &m);
            if (task->synapse == n->first)
                memcpy(current, row_of_table(of->shift, n->rows_of_shift, step, &m), LS_BLOCK * sizeof(float));
            if (!m.listed->sums) add_up(&m);
            if (m.listed->sums) state->kernels->scale_f32(current, m.listed->sums + block_of(&m), scale);
            else if (m.is_float) state->kernels->scale_f32(current, m.sums, scale);
            else state->kernels->scale_i32(current, m.whole_sums, scale);
        }
}

static void run_neurons(void *data, int32_t piece) {
    const layer_task *task = data;
    ls_neurons neurons = neurons_of(task);
    int32_t width = task->node->made.width;
    begin_rows(task, piece, &neurons.first, &neurons.after);
    neurons.first *= width, neurons.after *= width;
    task->state->kernels->neurons(&neurons);
}

/* Copies the current of a layer without neurons, without the lanes that fill up blocks. */
static void copy_currents(const layer_task *task) {
    const edge *made = &task->node->made;
    const remembered *of = task->state->node + task->number;
    for (int32_t t = 0; t < task->state->count; t++)
        for (int64_t p = 0; p < pixels(made); p++)
            memcpy((float *)(void *)at_step(task->state, task->number + 1, t) + p * made->channels,
                   of->current + t * of->current_step + p * padded(made),
                   (size_t)made->channels * sizeof(float));
}

static void run_synapse(ls_state *state, layer_task *task) {
    const edge *made = &task->node->made;
    const synapse *s = state->program->synapse + task->synapse;
    const edge *in = state->program->edge + s->edge;
    int32_t pieces = pieces_of(state, made);
    int64_t rows = (int64_t)blocks(made) * made->height;
    if (s->whole && in->form == SPIKES) share(state, pieces, run_events, task);
    if (s->whole && in->form == ANALOG && (state->first == 0 || !in->is_static))
        share(state, pieces, run_dense, task);
    if (!s->whole && reads_events(state->program, s))
        share(state, (int64_t)state->count * in->height, list_row, task);
    if (!s->whole && in->is_static && state->first == 0) share(state, rows, add_up_static_row, task);
    if (!s->whole || (in->is_static && !stays(state->program, task->node))) share(state, rows, run_small, task);
}

static void run_whole_layer(ls_state *state, int32_t number) {
    const node *n = state->program->node + number;
    layer_task task = {state, n, number, n->first};
    for (; task.synapse < n->first + n->count; task.synapse++) run_synapse(state, &task);
    const synapse *last = state->program->synapse + n->first + n->count - 1;
    int fired = last->whole && state->program->edge[last->edge].form == SPIKES;
    if (n->has_neuron && !fired) share(state, pieces_of(state, &n->made), run_neurons, &task);
    if (!n->has_neuron && !is_plain(n)) copy_currents(&task);
}

static void run_layer(ls_state *state, int32_t number) {
    const ls_program *p = state->program;
    if (is_whole(p, p->node + number)) {
        run_whole_layer(state, number);
        return;
    }
    const node *n = p->node + number;
    layer_task task = {state, n, number, 0};
    int64_t rows = (int64_t)blocks(&n->made) * n->made.height;
    for (int32_t i = n->first; i < n->first + n->count; i++) {
        const synapse *s = p->synapse + i;
        task.synapse = i;
        if (reads_events(p, s))
            share(state, (int64_t)state->count * p->edge[s->edge].height, list_row, &task);
        else if (p->edge[s->edge].is_static && state->first == 0)
            share(state, rows, add_up_static_row, &task);
    }
    share(state, rows, run_row, &task);
}

/* ---- Nodes without weights ---- */

typedef struct {
    const ls_state *state;
    const node *node;
    const edge *in, *made;
    const char *from; /* of one step */
    char *to;
} move;

static void or_words(uint64_t *to, const uint64_t *from, int32_t count) {
    for (int32_t i = 0; i < count; i++) to[i] |= from[i];
}

/* Adds a pixel to a pool's window, or compares it. */
static void pool_more(const move *m, int64_t to, int64_t from, int32_t is_first) {
    int32_t channels = m->made->channels, maximum = m->node->kind == MAX_POOL;
    if (m->made->form == SPIKES) {
        or_words((uint64_t *)(void *)m->to + to * words(m->in),
                 (const uint64_t *)(const void *)m->from + from * words(m->in), words(m->in));
    } else if (m->made->form == ANALOG) {
        float *found = (float *)(void *)m->to + to * channels;
        const float *x = (const float *)(const void *)m->from + from * channels;
        if (is_first) memcpy(found, x, (size_t)channels * sizeof(float));
        else if (maximum)
            for (int32_t c = 0; c < channels; c++) found[c] = x[c] > found[c] ? x[c] : found[c];
        else
            for (int32_t c = 0; c < channels; c++) found[c] += x[c];
    } else {
        uint8_t *found = (uint8_t *)m->to + to * channels;
        const uint64_t *bits = (const uint64_t *)(const void *)m->from + from * words(m->in);
        const uint8_t *x = (const uint8_t *)m->from + from * channels;
        for (int32_t c = 0; c < channels; c++)
            found[c] = (uint8_t)(found[c] + (m->in->form == COUNTS ? x[c] : bits[c / 64] >> c % 64 & 1));
    }
}

static void pool_pixel(const move *m, int64_t y, int64_t x) {
    const node *n = m->node;
    int32_t is_first = 1;
    for (int64_t ky = 0; ky < n->pair[0]; ky++) {
        int64_t iy = y * n->stride[0] + ky - n->padding[0];
        if (iy < 0 || iy >= m->in->height) continue;
        for (int64_t kx = 0; kx < n->pair[1]; kx++) {
            int64_t ix = x * n->stride[1] + kx - n->padding[1];
            if (ix < 0 || ix >= m->in->width) continue;
            pool_more(m, y * m->made->width + x, iy * m->in->width + ix, is_first);
            is_first = 0;
        }
    }
}

static int64_t pixel_bytes(const edge *e) {
    if (e->form == SPIKES) return 8 * (int64_t)words(e);
    return e->form == ANALOG ? (int64_t)sizeof(float) * e->channels : e->channels;
}

static void pool(const move *m) {
    memset(m->to, 0, (size_t)(pixels(m->made) * pixel_bytes(m->made)));
    for (int64_t y = 0; y < m->made->height; y++)
        for (int64_t x = 0; x < m->made->width; x++) pool_pixel(m, y, x);
}

/* Copies pixel by pixel: padding shifts the pixels, upsampling repeats them. */
static void pad_or_repeat(const move *m) {
    const node *n = m->node;
    size_t bytes = (size_t)pixel_bytes(m->made);
    for (int64_t y = 0; y < m->made->height; y++)
        for (int64_t x = 0; x < m->made->width; x++) {
            int64_t iy = n->kind == PAD ? y - n->padding[0] : y / n->pair[0];
            int64_t ix = n->kind == PAD ? x - n->padding[2] : x / n->pair[1];
            char *to = m->to + (y * m->made->width + x) * (int64_t)bytes;
            if (iy < 0 || iy >= m->in->height || ix < 0 || ix >= m->in->width) memset(to, 0, bytes);
            else memcpy(to, m->from + (iy * m->in->width + ix) * (int64_t)bytes, bytes);
        }
}

/* Adds `count` bits to cleared ones, from bit `begin` on. */
static void put_bits(uint64_t *to, int64_t begin, const uint64_t *from, int32_t count) {
    int32_t shift = (int32_t)(begin % 64);
    to += begin / 64;
    for (int32_t i = 0; i < (count + 63) / 64; i++) {
        to[i] |= from[i] << shift;
        if (shift && from[i] >> (64 - shift)) to[i + 1] |= from[i] >> (64 - shift);
    }
}

static void relabel(const move *m) {
    int64_t entries = pixels(m->in) * m->in->channels;
    if (m->made->form != SPIKES) {
        memcpy(m->to, m->from, (size_t)(entries * (m->made->form == ANALOG ? 4 : 1)));
        return;
    }
    const uint64_t *from = (const uint64_t *)(const void *)m->from;
    uint64_t *to = (uint64_t *)(void *)m->to;
    memset(to, 0, (size_t)(pixels(m->made) * pixel_bytes(m->made)));
    for (int64_t p = 0; p < pixels(m->in); p++)
        for (int32_t c = 0; c < m->in->channels; c++)
            if (from[p * words(m->in) + c / 64] >> c % 64 & 1) {
                int64_t entry = p * m->in->channels + c, at = entry % m->made->channels;
                to[entry / m->made->channels * words(m->made) + at / 64] |= (uint64_t)1 << at % 64;
            }
}

static void join(const move *m, int32_t begin) {
    int64_t each = m->made->form == ANALOG ? 4 : 1;
    for (int64_t p = 0; p < pixels(m->made); p++) {
        char *to = m->to + p * pixel_bytes(m->made);
        const char *from = m->from + p * pixel_bytes(m->in);
        if (m->made->form == SPIKES)
            put_bits((uint64_t *)(void *)to, begin, (const uint64_t *)(const void *)from, m->in->channels);
        else memcpy(to + begin * each, from, (size_t)pixel_bytes(m->in));
    }
}

static void run_other(const ls_state *state, int32_t number, int32_t t) {
    const ls_program *p = state->program;
    const node *n = p->node + number;
    move m = {state, n, NULL, p->edge + number + 1, NULL, at_step(state, number + 1, t)};
    if (n->kind == CONCAT) memset(m.to, 0, (size_t)(pixels(m.made) * pixel_bytes(m.made)));
    for (int32_t i = 0, begin = 0; i < n->count; i++, begin += m.in->channels) {
        int32_t read = p->input[n->first + i];
        m.in = p->edge + read;
        m.from = at_step(state, read, t);
        if (n->kind == CONCAT) join(&m, begin);
        else if (n->kind == RELABEL) relabel(&m);
        else if (n->kind == PAD || n->kind == UPSAMPLE) pad_or_repeat(&m);
        else pool(&m);
    }
}

/* ---- Work, counted while the state is watched ---- */

/* Returns how many outputs of one axis read entry i. */
static int64_t readers(const synapse *s, int32_t axis, int64_t i, int64_t outputs) {
    int64_t found = 0;
    for (int64_t k = 0; k < s->kernel[axis]; k++) {
        int64_t from = i + s->padding[axis] - k * s->dilation[axis];
        found += from >= 0 && from % s->stride[axis] == 0 && from / s->stride[axis] < outputs;
    }
    return found;
}

/* Returns the number of spikes under a pixel. */
static int64_t spikes_at(const ls_state *state, const edge *in, int32_t number, int32_t t, int64_t pixel) {
    const char *from = at_step(state, number, t) + pixel * pixel_bytes(in);
    int64_t found = 0;
    if (in->form == COUNTS)
        for (int32_t c = 0; c < in->channels; c++) found += ((const uint8_t *)from)[c];
    else
        for (int32_t w = 0; w < words(in); w++)
            for (uint64_t rest = ((const uint64_t *)(const void *)from)[w]; rest; rest &= rest - 1) found++;
    return found;
}

static void count_synapse(const ls_state *state, const synapse *s, const edge *made, ls_count *into) {
    const edge *in = state->program->edge + s->edge;
    int64_t steps = in->is_static ? state->first == 0 : state->count;
    int64_t outputs = s->kind == SAME ? 1 : made->channels / s->groups;
    for (int64_t y = 0; y < in->height; y++) {
        int64_t rows = s->kind == SAME ? 1 : readers(s, 0, y, made->height);
        for (int64_t x = 0; x < in->width; x++) {
            int64_t each = outputs * (s->kind == SAME ? 1 : rows * readers(s, 1, x, made->width));
            if (in->form == ANALOG) into->multiplies += steps * each * in->channels;
            for (int32_t t = 0; in->form != ANALOG && t < steps; t++) {
                int64_t events = spikes_at(state, in, s->edge, t, y * in->width + x);
                into->events += events, into->accumulates += events * each;
            }
        }
    }
}

static void count_node(const ls_state *state, int32_t number) {
    const node *n = state->program->node + number;
    for (int32_t i = n->first; n->kind == LAYER && i < n->first + n->count; i++)
        count_synapse(state, state->program->synapse + i, &n->made, state->counts + number);
}

/* ---- Runs ---- */

static void run_node(ls_state *state, int32_t number) {
    int32_t is_static = state->program->edge[number + 1].is_static;
    if (is_static && state->first > 0) return;
    if (state->program->node[number].kind == LAYER) run_layer(state, number);
    else
        for (int32_t t = 0; t < (is_static ? 1 : state->count); t++) run_other(state, number, t);
}

static void take_input(ls_state *state, const float *image) {
    const edge *in = state->program->edge;
    size_t bytes = (size_t)(pixels(in) * in->channels) * sizeof(float);
    if (!in->is_static) {
        state->edge->data = (char *)(uintptr_t)image; /* only read */
        state->edge->step = (int64_t)bytes;
    } else if (state->first == 0) memcpy(state->edge->data, image, bytes);
}

int ls_run(ls_state *state, const float *image, int32_t first, int32_t after, float *logits) {
    const ls_program *p = state->program;
    int32_t outputs = p->edge[p->output].channels;
    if ((first != 0 && first != state->next) || first < 0 || after <= first || after > p->most_steps ||
        after - first > state->steps)
        return -1;
    state->first = first, state->count = after - first, state->next = after;
    take_input(state, image);
    for (int32_t k = 0; k < p->nodes; k++) {
        double begin = state->counts && state->now ? state->now() : 0;
        run_node(state, k);
        if (!state->counts) continue;
        if (state->now) state->counts[k].seconds += state->now() - begin;
        count_node(state, k);
    }
    for (int32_t t = 0; t < state->count; t++)
        memcpy(logits + (int64_t)t * outputs, at_step(state, p->output, t), (size_t)outputs * sizeof(float));
    return 0;
}

/* Returns the probability of the likeliest class minus that of the second, from logits / steps. */
static float margin_of(const float *total, int32_t outputs, float steps) {
    float first = outputs > 1 ? -INFINITY : 0, second = -INFINITY, all = 0;
    for (int32_t k = 0; k < outputs; k++) {
        float z = total[k] / steps;
        if (z > first) second = first, first = z;
        else if (z > second) second = z;
    }
    if (outputs == 1) all = expf(-first); /* the no has logit 0 */
    for (int32_t k = 0; k < outputs; k++) all += expf(total[k] / steps - first);
    return (1 - expf(second - first)) / all;
}

int32_t ls_answer(ls_state *state, const float *image, float margin, int32_t latest, float *logits) {
    const edge *in = state->program->edge;
    int32_t outputs = state->program->edge[state->program->output].channels, step = 0;
    int64_t frame = in->is_static ? 0 : pixels(in) * in->channels;
    if (latest < 1 || latest > state->program->most_steps) return -1;
    do {
        if (ls_run(state, image + step * frame, step, step + 1, state->logits) != 0) return -1;
        for (int32_t k = 0; k < outputs; k++)
            logits[k] = step ? logits[k] + state->logits[k] : state->logits[k];
        step++;
    } while (step < latest && !(margin_of(logits, outputs, (float)step) >= margin));
    for (int32_t k = 0; k < outputs; k++) logits[k] /= (float)step;
    return step;
}
