#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "data/concepts_internal.h"

/* Names as the automaton sees them: with a space on each side. */
typedef struct {
    const unsigned char *text;
    int64_t size;
} padded;

static padded name_of(const bif_concepts *concepts, uint32_t entry)
{
    return (padded){(const unsigned char *)concepts->text + concepts->start[entry],
                    concepts->start[entry + 1] - concepts->start[entry] + 2};
}

static int at(padded name, int64_t depth)
{
    return depth == 0 || depth == name.size - 1 ? ' ' : name.text[depth - 1];
}

int bif_concepts_compare(const void *a, const void *b, void *concepts)
{
    const padded x = name_of(concepts, *(const uint32_t *)a), y = name_of(concepts, *(const uint32_t *)b);
    const int64_t least = (x.size < y.size ? x.size : y.size) - 2;
    const int order = least > 0 ? memcmp(x.text, y.text, (size_t)least) : 0;
    if (order != 0) {
        return order;
    }
    if (x.size == y.size) {
        return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
    }
    const int last = at(x, least + 1) - at(y, least + 1); /* the shorter one's last space against the other's byte */
    return last != 0 ? last : x.size < y.size ? -1 : 1;
}

/* States of the trie: a distinct prefix each. */
static int64_t count_states(const bif_concepts *concepts)
{
    int64_t states = 1;
    for (int64_t i = 0; i < concepts->info.entries; i++) {
        const padded name = name_of(concepts, concepts->order[i]);
        int64_t common = 0;
        if (i > 0) {
            const padded before = name_of(concepts, concepts->order[i - 1]);
            while (common < before.size && common < name.size && at(before, common) == at(name, common)) {
                common++;
            }
        }
        states += name.size - common;
    }
    return states;
}

/* Frequent bytes get small codes: children lie close to their parent's base. */
static void number_bytes(bif_concepts *concepts)
{
    int64_t count[256] = {0};
    for (int64_t i = 0; i < concepts->start[concepts->info.entries]; i++) {
        count[(unsigned char)concepts->text[i]]++;
    }
    count[' '] += 2 * concepts->info.entries;
    for (uint16_t next = 1; next <= 256; next++) {
        int best = -1;
        for (int b = 0; b < 256; b++) {
            best = count[b] > 0 && (best < 0 || count[b] > count[best]) ? b : best;
        }
        if (best < 0) {
            break;
        }
        concepts->code[best] = next;
        count[best] = 0;
    }
}

enum { CODES = 257, TRIES = 64 };

/* A range of entries (by name) that share `depth` bytes, and their state. */
typedef struct {
    uint32_t first, end;
    int32_t state, depth;
} span;

typedef struct {
    bif_concepts *concepts;
    int32_t open; /* first free state; free ones are linked through `fail` (next) and `out` (before), and have check -1 */
    int32_t tail; /* all from here on are free */
    span *work;
    int64_t count, room;
} builder;

static void grow(builder *b, int64_t room)
{
    bif_concepts *c = b->concepts;
    const int64_t old = c->room;
    BIF_BUG_IF(room > INT32_MAX, "an automaton of %lld states", (long long)room);
    c->state = bif_realloc(c->state, (size_t)room, sizeof *c->state);
    for (int64_t i = old; i < room; i++) {
        c->state[i] = (bif_concept_state){.base = 0, .check = -1, .fail = (int32_t)i + 1, .out = (int32_t)i - 1};
    }
    const int32_t first = b->open >= 0 ? b->open : (int32_t)old;
    const int32_t last = b->open >= 0 ? c->state[b->open].out : (int32_t)room - 1;
    if (b->open >= 0) {
        c->state[last].fail = (int32_t)old;
        c->state[old].out = last;
    }
    c->state[room - 1].fail = first;
    c->state[first].out = (int32_t)room - 1;
    b->open = first;
    c->room = room;
}

static void grow_some(builder *b)
{
    grow(b, b->concepts->room + b->concepts->room / 8 + 4 * CODES);
}

static void take(builder *b, int32_t slot, int32_t parent)
{
    bif_concept_state *state = b->concepts->state;
    const int32_t next = state[slot].fail, before = state[slot].out;
    state[before].fail = next;
    state[next].out = before;
    if (b->open == slot) {
        b->open = next == slot ? -1 : next;
    }
    state[slot] = (bif_concept_state){.base = 0, .check = parent, .fail = 0, .out = -1};
    b->tail = slot >= b->tail ? slot + 1 : b->tail;
}

static bool fits(builder *b, int64_t base, const uint16_t *code, int count)
{
    if (base < 0) {
        return false;
    }
    while (base + CODES >= b->concepts->room) {
        grow_some(b);
    }
    for (int i = 0; i < count; i++) {
        if (b->concepts->state[base + code[i]].check != -1) {
            return false;
        }
    }
    return true;
}

/* A base whose slots are free: beside the parent if possible (a caption that follows one name then stays in one cache line), else the first
 * that fits among some free ones, else behind all. */
static int32_t place(builder *b, int32_t parent, const uint16_t *code, int count)
{
    if (fits(b, (int64_t)parent + 1 - code[0], code, count)) {
        return parent + 1 - code[0];
    }
    while (b->open < 0) {
        grow_some(b);
    }
    int32_t slot = b->open;
    for (int i = 0; i < TRIES; i++, slot = b->concepts->state[slot].fail) {
        if (fits(b, (int64_t)slot - code[0], code, count)) {
            return slot - code[0];
        }
    }
    fits(b, b->tail - 1, code, count); /* grows if it must */
    return b->tail - 1;
}

static void push(builder *b, span s)
{
    if (b->count == b->room) {
        b->room = b->room ? 2 * b->room : 1024;
        b->work = bif_realloc(b->work, (size_t)b->room, sizeof *b->work);
    }
    b->work[b->count++] = s;
}

/* The children of a range: ranges with one byte more. Returns how many; codes beside them. */
static int children(const bif_concepts *concepts, span s, span *child, uint16_t *code)
{
    int count = 0, last = -1;
    for (uint32_t i = s.first; i < s.end; i++) {
        const padded name = name_of(concepts, concepts->order[i]);
        if (name.size == s.depth) { /* ends here */
            continue;
        }
        const int byte = at(name, s.depth);
        if (byte != last) {
            child[count] = (span){.first = i, .end = i, .depth = s.depth + 1};
            code[count++] = concepts->code[byte];
            last = byte;
        }
        child[count - 1].end = i + 1;
    }
    return count;
}

/* Depth first, so that the states of one name lie side by side. */
static void place_states(builder *b)
{
    span child[256];
    uint16_t code[256], sorted[256];
    b->count = 0;
    push(b, (span){.first = 0, .end = (uint32_t)b->concepts->info.entries});
    while (b->count > 0) {
        const span s = b->work[--b->count];
        const int count = children(b->concepts, s, child, code);
        if (count == 0) {
            continue;
        }
        memcpy(sorted, code, (size_t)count * sizeof *code);
        for (int i = 1; i < count; i++) { /* the smallest code first: place() counts from it */
            for (int k = i; k > 0 && sorted[k - 1] > sorted[k]; k--) {
                const uint16_t swap = sorted[k];
                sorted[k] = sorted[k - 1];
                sorted[k - 1] = swap;
            }
        }
        const int32_t base = place(b, s.state, sorted, count);
        b->concepts->state[s.state].base = base;
        for (int i = 0; i < count; i++) {
            take(b, base + code[i], s.state);
            child[i].state = base + code[i];
        }
        for (int i = count; i-- > 0;) {
            push(b, child[i]);
        }
    }
}

/* Breadth first: a state's fail is the longest proper suffix that is a prefix of some name, and that is less deep. */
static void link_states(builder *b)
{
    bif_concepts *c = b->concepts;
    span child[256];
    uint16_t code[256];
    b->count = 0;
    push(b, (span){.first = 0, .end = (uint32_t)c->info.entries});
    for (int64_t head = 0; head < b->count; head++) {
        const span s = b->work[head];
        const int count = children(c, s, child, code);
        for (int i = 0; i < count; i++) {
            const int32_t t = c->state[s.state].base + code[i];
            int32_t fail = 0;
            if (s.state != 0) {
                for (int32_t f = c->state[s.state].fail;; f = c->state[f].fail) {
                    const int32_t to = c->state[f].base + code[i];
                    if (c->state[to].check == f) {
                        fail = to;
                        break;
                    }
                    if (f == 0) {
                        break;
                    }
                }
            }
            c->state[t].fail = fail;
            const uint32_t entry = c->order[child[i].first]; /* the shortest name comes first */
            const int32_t shorter = c->state[fail].out;
            c->state[t].out = shorter;
            if (name_of(c, entry).size == child[i].depth) {
                c->shorter[entry] = shorter;
                c->state[t].out = (int32_t)entry | (shorter >= 0 ? BIF_CONCEPT_MORE : 0);
            }
            child[i].state = t;
            push(b, child[i]);
        }
    }
}

/* The used part alone, on large pages: its states are read in no order (tests/bench/results: measured without). */
static void settle(bif_concepts *concepts, int64_t used)
{
    const size_t page = (size_t)2 << 20, room = (size_t)used + CODES, size = (room * sizeof *concepts->state + page - 1) / page * page;
    bif_concept_state *state = aligned_alloc(page, size);
    if (state == NULL) {
        return; /* it works as it is */
    }
    madvise(state, size, MADV_HUGEPAGE); /* a hint */
    memcpy(state, concepts->state, (size_t)used * sizeof *state);
    for (size_t i = (size_t)used; i < room; i++) {
        state[i] = (bif_concept_state){.check = -1, .out = -1};
    }
    free(concepts->state);
    concepts->state = state;
    concepts->room = (int64_t)room;
}

bif_status bif_concepts_build(const char *where, bif_concepts *concepts, int64_t most)
{
    const int64_t n = concepts->info.entries;
    concepts->shorter = bif_malloc((size_t)n * sizeof *concepts->shorter);
    for (int64_t i = 0; i < n; i++) {
        concepts->shorter[i] = -1;
    }
    concepts->info.states = count_states(concepts);
    /* An eighth more for the holes in the double array, and the breadth-first list while it is made. */
    const int64_t fixed = concepts->start[n] + n * (int64_t)(sizeof(int64_t) + sizeof(uint64_t) + 3 * sizeof(uint32_t));
    const int64_t room = concepts->info.states + concepts->info.states / 8 + 8 * CODES;
    const int64_t need = fixed + room * (int64_t)sizeof *concepts->state + 2 * concepts->info.states * (int64_t)sizeof(span);
    if (need > most || room > INT32_MAX / 2 || n > BIF_CONCEPT_MORE) {
        return bif_fail(BIF_ERR_MEMORY,
                        "%s: the automaton of %lld entries takes %lld MiB while it is made, of %lld MiB: raise --memory-mib", where,
                        (long long)n, (long long)(need >> 20) + 1, (long long)(most >> 20));
    }
    number_bytes(concepts);
    builder b = {.concepts = concepts, .open = -1};
    concepts->room = CODES; /* these serve the start alone, so that every other slot has a base that is not negative */
    concepts->state = bif_malloc(CODES * sizeof *concepts->state);
    for (int i = 0; i < CODES; i++) {
        concepts->state[i] = (bif_concept_state){.base = 0, .check = -2, .fail = 0, .out = -1};
    }
    b.tail = CODES;
    grow(&b, room);
    place_states(&b);
    link_states(&b);
    free(b.work);
    settle(concepts, b.tail);
    concepts->info.bytes = fixed + concepts->room * (int64_t)sizeof *concepts->state;
    return BIF_OK;
}
