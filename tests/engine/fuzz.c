/* Reads files that were changed at random: each must be refused in one line, or be run within its memory,
 * with the same bits whoever computes. To be run under the sanitizers (make sanitize).
 *
 * fuzz SEED ROUNDS FILE [FOLDER]: with the seed that a failure named, the same again. What is taken is
 * written into the folder, with an image and its logits, for others to compare. */
#include "../../src/engine/engine.h"
#include "../pool.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROOM = 16 << 20, MOST_STEPS = 3, PREFIX = 32, PATIENCE_S = 60, MOST_KEPT = 200 };

static unsigned long long seed, round_number;
static uint64_t state_of_dice;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "fuzz %llu, round %llu: ", seed, round_number);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static int64_t below(int64_t limit) {
    uint64_t z = state_of_dice += 0x9e3779b97f4a7c15u; /* splitmix64, of public domain */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)limit);
}

/* No more bytes than were asked for: the sanitizer sees what is read or written beyond them. */
static void *exactly(size_t bytes) {
    void *found = malloc(bytes ? bytes : 1);
    if (!found) fail("no memory for %zu bytes", bytes);
    return found;
}

/* ---- Changes ---- */

typedef struct {
    char *bytes;
    size_t count;
} content;

static size_t header_of(const content *c) {
    uint32_t bytes;
    memcpy(&bytes, c->bytes + 12, sizeof bytes);
    return bytes < c->count - PREFIX ? bytes : c->count - PREFIX;
}

static void flip_bits(content *c, size_t begin, size_t bytes) {
    for (int64_t n = 1 + below(4); n > 0 && bytes > 0; n--)
        c->bytes[begin + (size_t)below((int64_t)bytes)] ^= (char)(1 << below(8));
}

/* Text in the place of some of the header; what follows moves up to the tensors, as far as there is room. */
static void write_over(content *c, size_t at, size_t replaced, const char *text, size_t length) {
    size_t end = PREFIX + header_of(c), room = (end + 63) / 64 * 64;
    uint32_t header;
    if (at + replaced > end || end - replaced + length > room || room > c->count) return;
    memmove(c->bytes + at + length, c->bytes + at + replaced, end - at - replaced);
    memcpy(c->bytes + at, text, length);
    header = (uint32_t)(end - replaced + length - PREFIX);
    memset(c->bytes + PREFIX + header, 0, room - PREFIX - header);
    memcpy(c->bytes + 12, &header, sizeof header);
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }

static void hostile_number(content *c) {
    static const char *const numbers[] = {"0", "1", "2", "3", "7", "64", "255", "256", "65535", "65536",
                                          "268435456", "2147483647", "2147483648", "4294967296",
                                          "9007199254740992", "99999999999999999999", "-1", "1.5", "1e9"};
    size_t at = PREFIX + (size_t)below((int64_t)header_of(c)), end = PREFIX + header_of(c), length = 0;
    const char *text = numbers[below((int64_t)(sizeof numbers / sizeof *numbers))];
    while (at < end && !is_digit(c->bytes[at])) at++;
    while (at + length < end && is_digit(c->bytes[at + length])) length++;
    if (length > 0) write_over(c, at, length, text, strlen(text));
}

/* Some of the header in another place of it. */
static void move_text(content *c) {
    char text[48];
    size_t header = header_of(c), length = 1 + (size_t)below((int64_t)sizeof text);
    if (header <= sizeof text) return;
    memcpy(text, c->bytes + PREFIX + below((int64_t)(header - length)), length);
    write_over(c, PREFIX + (size_t)below((int64_t)(header - length)), length, text, length);
}

static void other_word(content *c) {
    static const char *const words[] = {"soft", "hard", "undecayed", "spikes", "analog", "counts", "conv",
                                        "linear", "same", "max_pool", "sum_pool", "true", "false", "null",
                                        "f32", "i8", "i6", "sum", "mean", "relabel", "upsample", "pad"};
    const int64_t count = (int64_t)(sizeof words / sizeof *words);
    const char *word = words[below(count)], *other = words[below(count)];
    size_t length = strlen(word), end = PREFIX + header_of(c), begin = PREFIX + (size_t)below((int64_t)header_of(c));
    for (size_t at = begin; at + length <= end; at++)
        if (memcmp(c->bytes + at, word, length) == 0) {
            write_over(c, at, length, other, strlen(other));
            return;
        }
}

static void hostile_floats(content *c) {
    static const float numbers[] = {0, -1, 3e38f, -3e38f, 1e-45f, INFINITY, NAN, 1};
    size_t begin = (PREFIX + header_of(c) + 63) / 64 * 64;
    for (int64_t n = 1 + below(3); n > 0 && begin + 4 <= c->count; n--) {
        size_t at = begin + 4 * (size_t)below((int64_t)((c->count - begin) / 4));
        memcpy(c->bytes + at, numbers + below(8), sizeof(float));
    }
}

static void deep(content *c) {
    size_t at = PREFIX + (size_t)below((int64_t)header_of(c)), end = PREFIX + header_of(c);
    memset(c->bytes + at, below(2) ? '[' : '{', end - at);
}

static uint32_t checksum_of(const content *c) {
    uint32_t sum = 0xffffffffu;
    for (size_t i = PREFIX; i < c->count; i++) {
        sum ^= (unsigned char)c->bytes[i];
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
    }
    return ~sum;
}

static void seal(content *c) {
    uint64_t bytes = c->count;
    uint32_t sum = checksum_of(c);
    memcpy(c->bytes + 16, &bytes, sizeof bytes);
    memcpy(c->bytes + 24, &sum, sizeof sum);
}

static content changed(const content *original) {
    content c = {NULL, original->count};
    int64_t how = below(20);
    if (how == 0) c.count = (size_t)below((int64_t)original->count);
    c.bytes = exactly(c.count);
    memcpy(c.bytes, original->bytes, c.count);
    if (c.count <= PREFIX + 64) return c;
    if (how == 1) flip_bits(&c, 0, PREFIX);
    else if (how == 2) flip_bits(&c, 0, c.count); /* the checksum tells */
    else {
        for (int64_t n = 1 + below(2); n > 0; n--) {
            if (how < 6) flip_bits(&c, PREFIX, header_of(&c));
            else if (how < 8) flip_bits(&c, PREFIX, c.count - PREFIX);
            else if (how < 12) hostile_number(&c);
            else if (how < 14) move_text(&c);
            else if (how < 17) other_word(&c);
            else if (how < 18) deep(&c);
            else hostile_floats(&c);
        }
        seal(&c);
    }
    return c;
}

/* ---- What must be so ---- */

static void check_message(const char message[LS_MESSAGE]) {
    const char *end = memchr(message, 0, LS_MESSAGE);
    if (!end || end == message) fail("refused with no message, or one without an end");
    for (const char *c = message; c < end; c++)
        if (*c < ' ' || *c > '~') fail("a message of other than one line: %s", message);
}

static float *some_image(const ls_facts *facts, int32_t steps, size_t *count) {
    *count = (size_t)facts->height * (size_t)facts->width * (size_t)facts->channels;
    if (!facts->static_input) *count *= (size_t)steps;
    float *image = exactly(*count * sizeof *image);
    for (size_t i = 0; i < *count; i++) image[i] = (float)(below(33) - 16) / 4;
    return image;
}

static int same_numbers(const float *a, const float *b, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (a[i] != b[i] && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

/* The logits [steps][outputs] of one image, or NULL where it needs more memory than is given here. */
static float *logits_of(const ls_program *program, const float *image, int32_t steps, int32_t at_once,
                        ls_count *counts) {
    size_t outputs = (size_t)ls_about(program).outputs, room = ls_state_room(program, at_once);
    ls_facts facts = ls_about(program);
    size_t frame = facts.static_input ? 0 : (size_t)facts.height * (size_t)facts.width * (size_t)facts.channels;
    if (room == 0 || room > MOST_ROOM) return NULL;
    void *memory = exactly(room);
    ls_state *state = ls_begin(program, at_once, memory, room);
    if (!state || ls_begin(program, at_once, memory, room - 1)) fail("a state wants other than its room");
    state = ls_begin(program, at_once, memory, room);
    float *logits = exactly((size_t)steps * outputs * sizeof *logits);
    ls_watch(state, counts, NULL);
    for (int32_t t = 0; t < steps; t += at_once)
        if (ls_run(state, image + (size_t)t * frame, t, t + at_once, logits + (size_t)t * outputs) != 0)
            fail("steps %d to %d of %d are refused", (int)t, (int)(t + at_once), (int)steps);
    free(memory);
    return logits;
}

static void check_sets(ls_program *program, const float *image, int32_t steps, const float *expected) {
    size_t count = (size_t)steps * (size_t)ls_about(program).outputs;
    for (int32_t set = LS_PLAIN; set <= ls_best_instructions(); set++) {
        const ls_kernels *kernels = ls_kernels_of(set);
        size_t room = ls_pack_room(program, kernels);
        if (room > MOST_ROOM) continue;
        void *packed = exactly(room);
        if (ls_pack(program, kernels, packed, room) != 0) fail("packing is refused");
        float *logits = logits_of(program, image, steps, steps, NULL);
        if (logits && expected && !same_numbers(logits, expected, count))
            fail("instruction set %d answers otherwise", (int)set);
        free(logits);
        free(packed);
    }
}

static void check_batch(const ls_program *program, const float *image, size_t size, int32_t steps,
                        const float *expected) {
    size_t count = (size_t)steps * (size_t)ls_about(program).outputs;
    for (int32_t way = 0; way < 4; way++) { /* of few images and of many, in own threads and in a pool */
        int32_t images = way % 2 ? 4 : 1;
        float *all = exactly((size_t)images * size * sizeof *all);
        float *logits = exactly((size_t)images * count * sizeof *logits);
        for (int32_t i = 0; i < images; i++) memcpy(all + (size_t)i * size, image, size * sizeof *all);
        ls_batch batch = {.program = program, .images = all, .size = (int64_t)size, .count = images,
                          .threads = 3, .steps = steps, .logits = logits,
                          .parallel = way / 2 ? parallel : NULL};
        batch.memory = exactly(ls_batch_room(&batch));
        if (ls_run_batch(&batch) != 0) fail("a batch is refused");
        for (int32_t i = 0; i < images; i++)
            if (!same_numbers(logits + (size_t)i * count, expected, count)) fail("threads answer otherwise");
        free(batch.memory);
        free(logits);
        free(all);
    }
}

static void keep(const char *folder, const content *c, const float *image, size_t size, const float *logits,
                 size_t count) {
    static int kept;
    const void *parts[] = {c->bytes, image, logits};
    const size_t bytes[] = {c->count, size * sizeof *image, count * sizeof *logits};
    static const char *const names[] = {"leanspike", "image", "logits"};
    if (!folder || kept == MOST_KEPT) return;
    for (int i = 0; i < 3; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%03d.%s", folder, kept, names[i]);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(parts[i], 1, bytes[i], file) != bytes[i]) fail("%s cannot be written", path);
        fclose(file);
    }
    kept++;
}

static void run(ls_program *program, const content *c, const char *folder) {
    ls_facts facts = ls_about(program);
    int32_t steps = facts.timesteps < MOST_STEPS ? facts.timesteps : MOST_STEPS;
    size_t size, count = (size_t)steps * (size_t)facts.outputs;
    size_t entries = (size_t)facts.height * (size_t)facts.width * (size_t)facts.channels;
    if (entries > MOST_ROOM / sizeof(float) / MOST_STEPS) return;
    float *image = some_image(&facts, steps, &size);
    ls_count *counts = calloc((size_t)facts.nodes + 1, sizeof *counts);
    float *logits = logits_of(program, image, steps, steps, counts);
    if (logits) {
        float *single = logits_of(program, image, steps, 1, NULL);
        if (single && !same_numbers(single, logits, count)) fail("single steps answer otherwise");
        free(single);
        if (round_number % 8 == 0) check_batch(program, image, size, steps, logits);
        keep(folder, c, image, size, logits, count);
    }
    check_sets(program, image, steps, logits);
    free(logits);
    free(counts);
    free(image);
}

/* Whether the file was taken. */
static int check(const content *c, const char *folder) {
    char message[LS_MESSAGE];
    memset(message, 1, sizeof message);
    size_t room = ls_program_room(c->bytes, c->count, message);
    if (room == 0) return check_message(message), 0;
    void *memory = exactly(room);
    if (ls_open(c->bytes, c->count, memory, room - 1, message)) fail("less than its room is enough");
    ls_program *program = ls_open(c->bytes, c->count, memory, room, message);
    if (program) run(program, c, folder);
    else check_message(message);
    free(memory);
    return program != NULL;
}

static content whole_file(const char *path) {
    FILE *file = fopen(path, "rb");
    content c = {exactly(1 << 24), 0};
    if (!file) fail("%s cannot be read", path);
    c.count = fread(c.bytes, 1, 1 << 24, file);
    fclose(file);
    return c;
}

int main(int count, char **arguments) {
    if (count < 4) return fprintf(stderr, "use: fuzz SEED ROUNDS FILE [FOLDER]\n"), 1;
    seed = strtoull(arguments[1], NULL, 10);
    unsigned long long rounds = strtoull(arguments[2], NULL, 10), taken = 0;
    content original = whole_file(arguments[3]);
    const char *folder = count > 4 ? arguments[4] : NULL;
    if (!check(&original, folder)) fail("%s is refused", arguments[3]);
    for (round_number = 1; round_number <= rounds; round_number++) {
        alarm(PATIENCE_S); /* ends what hangs */
        state_of_dice = seed * 1000003u + round_number;
        content c = changed(&original);
        taken += (unsigned long long)check(&c, folder);
        free(c.bytes);
    }
    free(original.bytes);
    printf("fuzz %llu: %llu changed files, %llu of them taken, the others refused in one line each\n", seed,
           rounds, taken);
    return 0;
}
