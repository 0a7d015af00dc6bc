/* Answers an image: answer NETWORK.leanspike IMAGE, the image float32 [height][width][channels].
 * cc -std=c99 -O2 -I src/engine examples/c/answer.c src/engine/leanspike.c -lm -o answer */
#include "leanspike.h"

#include <stdio.h>
#include <stdlib.h>

static void *contents(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    long size = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    char *read = size < 0 || fseek(file, 0, SEEK_SET) ? NULL : malloc((size_t)size + 1);
    if (!read || fread(read, 1, (size_t)size, file) != (size_t)size) perror(path), exit(1);
    fclose(file);
    *bytes = (size_t)size;
    return read;
}

int main(int count, char **arguments) {
    char message[LS_MESSAGE];
    size_t bytes, image_bytes;
    if (count != 3) return fprintf(stderr, "use: answer NETWORK.leanspike IMAGE\n"), 1;
    void *file = contents(arguments[1], &bytes), *image = contents(arguments[2], &image_bytes);
    size_t room = ls_program_room(file, bytes, message);
    ls_program *program = room ? ls_open(file, bytes, malloc(room), room, message) : NULL;
    if (!program) return fprintf(stderr, "%s: %s\n", arguments[1], message), 1;
    ls_facts facts = ls_about(program);
    size_t wanted = sizeof(float) * facts.height * facts.width * facts.channels *
                    (facts.static_input ? 1 : facts.timesteps);
    if (image_bytes != wanted) return fprintf(stderr, "give an image of %zu bytes\n", wanted), 1;
    room = ls_state_room(program, 1);
    ls_state *state = ls_begin(program, 1, malloc(room), room);
    float *logits = malloc(sizeof(float) * facts.outputs);
    if (!state || !logits) return fprintf(stderr, "no memory\n"), 1;
    int steps = ls_answer(state, image, 0.9f, facts.timesteps, logits), best = 0;
    for (int k = 1; k < facts.outputs; k++) best = logits[k] > logits[best] ? k : best;
    ls_text name = ls_class(program, best);
    printf("class %d %.*s, logit %g, after %d of %d steps\n", best, (int)name.bytes, name.at,
           logits[best], steps, facts.timesteps);
    return 0;
}
