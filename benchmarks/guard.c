/* Memory that tells: convolution_gradients.py puts it before the C library (LD_PRELOAD).

   Blocks that are asked for with an alignment, as tensors and oneDNN's scratchpads are, end where a
   page begins that nobody may touch: a read or write past the end stops the process at the very
   instruction. What alignment leaves behind the block, and what lies before it on its first page,
   holds a pattern that is looked at when the block is freed. Fresh blocks are full of NaN (all bits
   set), in float32 as in bfloat16: a result that was made of memory nobody wrote shows it. */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096ul
#define REGION (1ul << 42) /* of addresses, not of memory: each block gets new ones */
#define PATTERN 0xA5
#define CAUGHT 99 /* the exit status; convolution_gradients.py knows it */

extern void __libc_free(void *);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_malloc(size_t);
extern void *__libc_memalign(size_t, size_t);

/* At the beginning of the page before a block's first. */
struct block {
    unsigned char *start;
    size_t size, pages;
};

static unsigned char *region;
static atomic_size_t used;

__attribute__((noreturn)) static void stop(const char *line) {
    (void)!write(STDERR_FILENO, line, strlen(line));
    _exit(CAUGHT);
}

static int is_ours(const void *address) {
    const unsigned char *byte = address;
    return region && byte >= region && byte < region + REGION;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    if (is_ours(info->si_addr)) {
        const ucontext_t *where = context;
        stop(where->uc_mcontext.gregs[REG_ERR] & 2 ? "a write outside its memory\n"
                                                   : "a read outside its memory\n");
    }
    signal(number, SIG_DFL);
    raise(number);
}

__attribute__((constructor)) static void begin(void) {
    void *found = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    region = found == MAP_FAILED ? NULL : found;
}

/* The header of a block of ours: one page before the page that the block begins in. */
static struct block *header(const void *start) {
    size_t offset = (size_t)((const unsigned char *)start - region);
    return (struct block *)(region + (offset / PAGE - 1) * PAGE);
}

static void *guarded(size_t alignment, size_t size) {
    if (!region || alignment > PAGE) {
        return __libc_memalign(alignment, size);
    }
    size_t room = (size + alignment - 1) / alignment * alignment;
    room = room ? room : alignment;
    size_t pages = (room + PAGE - 1) / PAGE;
    size_t offset = atomic_fetch_add(&used, (pages + 2) * PAGE);
    unsigned char *first = region + offset;
    if (offset + (pages + 2) * PAGE > REGION ||
        mprotect(first, (pages + 1) * PAGE, PROT_READ | PROT_WRITE) != 0) {
        return NULL;
    }
    unsigned char *end = first + (pages + 1) * PAGE;
    unsigned char *start = end - room;
    memset(first + PAGE, PATTERN, (size_t)(start - first) - PAGE);
    memset(start, 0xFF, size);
    memset(start + size, PATTERN, room - size);
    *(struct block *)first = (struct block){start, size, pages};
    return start;
}

static void check(const unsigned char *from, const unsigned char *to) {
    for (; from < to; from++) {
        if (*from != PATTERN) {
            stop("a write outside its memory, beside the block\n");
        }
    }
}

void free(void *start) {
    if (!is_ours(start)) {
        __libc_free(start);
        return;
    }
    struct block *block = header(start);
    if (block->start != start) {
        stop("free of what is no block\n");
    }
    unsigned char *first = (unsigned char *)block, *end = first + (block->pages + 1) * PAGE;
    check(first + PAGE, block->start);
    check(block->start + block->size, end);
    madvise(first, (size_t)(end - first), MADV_DONTNEED);
    mprotect(first, (size_t)(end - first), PROT_NONE);
}

void *realloc(void *start, size_t size) {
    if (!is_ours(start)) {
        return __libc_realloc(start, size);
    }
    void *copy = __libc_malloc(size);
    if (copy) {
        size_t before = header(start)->size;
        memcpy(copy, start, before < size ? before : size);
        free(start);
    }
    return copy;
}

int posix_memalign(void **found, size_t alignment, size_t size) {
    *found = guarded(alignment, size);
    return *found ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size) { return guarded(alignment, size); }

void *memalign(size_t alignment, size_t size) { return guarded(alignment, size); }
