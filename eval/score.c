#include "eval/score.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define BLOCK ((size_t)1 << 20)

struct bif_score_block {
    struct bif_score_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

static const char *const norm_names[BIF_NORMS] = {"official", "m4c", "lmms", "vlmevalkit", "llava"};

const char *bif_norm_name(bif_norm norm)
{
    return norm_names[norm];
}

bif_status bif_norm_by_name(const char *name, bif_norm *out)
{
    for (int i = 0; i < BIF_NORMS; i++) {
        if (strcmp(name, norm_names[i]) == 0) {
            *out = (bif_norm)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_USAGE, "there is no norm '%s'; official, m4c, lmms, vlmevalkit and llava are", name);
}

bif_status bif_score_has_norm(const bif_score_task *task, bif_norm norm)
{
    return (task->norms & BIF_NORM_BIT(norm)) != 0
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "--norm: task %s has %s", task->name,
                          task->norms == 0 ? "one rule alone" : "no such norm; bifocal score --help names those it has");
}

const bif_score_task *bif_score_task_by_name(const char *name)
{
    for (size_t i = 0; bif_score_tasks[i] != NULL; i++) {
        if (strcmp(bif_score_tasks[i]->name, name) == 0) {
            return bif_score_tasks[i];
        }
    }
    return NULL;
}

void bif_metric_add(bif_metric_list *list, double value, int64_t count, const char *name, ...)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity > 0 ? 2 * list->capacity : 32;
        list->items = bif_realloc(list->items, list->capacity, sizeof *list->items);
    }
    bif_metric *m = &list->items[list->count++];
    *m = (bif_metric){.value = value, .count = count};
    va_list arguments;
    va_start(arguments, name);
    vsnprintf(m->name, sizeof m->name, name, arguments);
    va_end(arguments);
    m->name[bif_utf8_check(m->name, strlen(m->name))] = '\0'; /* no half of a character at the end of what was cut */
}

/* ---- the set ---- */

bif_status bif_score_file(bif_score_set *set, const char *path, bif_scan **out)
{
    const bif_status st = bif_scan_open(path, out);
    if (st == BIF_OK) {
        set->files = bif_realloc(set->files, set->file_count + 1, sizeof *set->files);
        set->files[set->file_count++] = *out;
    }
    return st;
}

bif_status bif_score_bytes(bif_score_set *set, const char *path, bif_span *out)
{
    bif_scan *scan = NULL;
    const bif_status st = bif_score_file(set, path, &scan);
    if (st == BIF_OK) {
        *out = bif_scan_whole(scan);
    }
    return st;
}

void *bif_score_take(bif_score_set *set, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (set->blocks == NULL || set->blocks->size - set->blocks->used < size) {
        const size_t want = size > BLOCK ? size : BLOCK;
        struct bif_score_block *block = bif_malloc(sizeof *block + want);
        *block = (struct bif_score_block){.next = set->blocks, .size = want};
        set->blocks = block;
    }
    void *memory = set->blocks->bytes + set->blocks->used;
    set->blocks->used += size;
    return memset(memory, 0, size);
}

bif_span bif_score_text(bif_score_set *set, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = bif_score_take(set, (size_t)size + 1);
    va_start(arguments, format);
    vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    return (bif_span){text, (size_t)size};
}

bif_span bif_score_keep(bif_score_set *set, bif_span text)
{
    char *copy = bif_score_take(set, text.size + 1);
    if (text.size > 0) {
        memcpy(copy, text.text, text.size);
    }
    return (bif_span){copy, text.size};
}

void bif_score_note(bif_score_set *set, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    set->notes = bif_realloc(set->notes, set->note_count + 1, sizeof *set->notes);
    set->notes[set->note_count++] = bif_strdup(text);
}

static void forget_notes(bif_score_set *set, size_t from)
{
    while (set->note_count > from) {
        free(set->notes[--set->note_count]);
    }
}

bif_score_item *bif_score_add(bif_score_set *set, bif_span id)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity > 0 ? 2 * set->capacity : 4096;
        set->items = bif_realloc(set->items, (size_t)set->capacity, sizeof *set->items);
    }
    set->items[set->count] = (bif_score_item){.id = id};
    return &set->items[set->count++];
}

/* FNV-1a: ids are short. */
static uint64_t hash_of(bif_span span)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < span.size; i++) {
        hash = (hash ^ (unsigned char)span.text[i]) * 1099511628211u;
    }
    return hash ^ hash >> 32;
}

/* Place of an id in the table: of the item that has it, or the empty one where it would go. */
static size_t slot_of(const bif_score_set *set, bif_span id)
{
    size_t at = hash_of(id) & (set->slot_count - 1);
    while (set->slots[at] != 0 && !bif_span_equal(set->items[set->slots[at] - 1].id, id)) {
        at = (at + 1) & (set->slot_count - 1);
    }
    return at;
}

bif_score_item *bif_score_find(const bif_score_set *set, bif_span id)
{
    const uint32_t item = set->slots[slot_of(set, id)];
    return item == 0 ? NULL : &set->items[item - 1];
}

static size_t other_slot_of(const bif_score_set *set, bif_span name)
{
    size_t at = hash_of(name) & (set->slot_count - 1);
    while (set->other_slots[at] != 0 && !bif_span_equal(set->items[set->other_slots[at] - 1].other_id, name)) {
        at = (at + 1) & (set->slot_count - 1);
    }
    return at;
}

/* A slot a name, with a chain of the items that share it, in their order. */
static void index_others(bif_score_set *set)
{
    set->other_slots = bif_calloc(set->slot_count, sizeof *set->other_slots);
    set->other_next = bif_calloc((size_t)set->count, sizeof *set->other_next);
    for (int64_t i = set->count - 1; i >= 0; i--) {
        if (set->items[i].other_id.size > 0) {
            const size_t at = other_slot_of(set, set->items[i].other_id);
            set->other_next[i] = set->other_slots[at];
            set->other_slots[at] = (uint32_t)i + 1;
        }
    }
}

static bif_status index_ids(bif_score_set *set)
{
    bool others = false;
    free(set->slots);
    free(set->other_slots);
    free(set->other_next);
    set->other_slots = set->other_next = NULL;
    for (set->slot_count = 16; set->slot_count < 2 * (size_t)set->count; set->slot_count *= 2) {
    }
    set->slots = bif_calloc(set->slot_count, sizeof *set->slots);
    for (int64_t i = 0; i < set->count; i++) {
        const size_t at = slot_of(set, set->items[i].id);
        if (set->slots[at] != 0) {
            return bif_fail(BIF_ERR_DATA, "the references hold the id %.*s twice", (int)set->items[i].id.size, set->items[i].id.text);
        }
        set->slots[at] = (uint32_t)i + 1;
        others = others || set->items[i].other_id.size > 0;
    }
    if (others) {
        index_others(set);
    }
    return BIF_OK;
}

bif_score_item *bif_score_find_other(bif_score_set *set, bif_span name)
{
    if (set->other_slots == NULL || name.size == 0) {
        return NULL;
    }
    uint32_t *slot = &set->other_slots[other_slot_of(set, name)];
    while (*slot != 0 && set->items[*slot - 1].line > 0 && set->other_next[*slot - 1] != 0) {
        *slot = set->other_next[*slot - 1]; /* for good: an answer stays */
    }
    return *slot == 0 ? NULL : &set->items[*slot - 1];
}

/* Values to dense numbers in order of appearance. */
typedef struct {
    bif_span *values;
    int32_t *slots, count;
    size_t slot_count;
} numbering;

static void grow(numbering *n)
{
    free(n->slots);
    n->slot_count = n->slot_count > 0 ? 2 * n->slot_count : 64;
    n->slots = bif_calloc(n->slot_count, sizeof *n->slots);
    n->values = bif_realloc(n->values, n->slot_count, sizeof *n->values);
    for (int32_t i = 0; i < n->count; i++) {
        size_t at = hash_of(n->values[i]) & (n->slot_count - 1);
        while (n->slots[at] != 0) {
            at = (at + 1) & (n->slot_count - 1);
        }
        n->slots[at] = i + 1;
    }
}

static int32_t number_of(numbering *n, bif_span value)
{
    if (2 * (size_t)n->count >= n->slot_count) {
        grow(n);
    }
    size_t at = hash_of(value) & (n->slot_count - 1);
    while (n->slots[at] != 0) {
        if (bif_span_equal(n->values[n->slots[at] - 1], value)) {
            return n->slots[at] - 1;
        }
        at = (at + 1) & (n->slot_count - 1);
    }
    n->values[n->count] = value;
    n->slots[at] = ++n->count;
    return n->count - 1;
}

static void number_groups(bif_score_set *set)
{
    for (int d = 0; d < BIF_SCORE_GROUPS; d++) {
        numbering n = {0};
        for (int64_t i = 0; i < set->count; i++) {
            bif_score_item *item = &set->items[i];
            item->group_index[d] = item->group[d].size > 0 ? number_of(&n, item->group[d]) : -1;
        }
        free(n.slots);
        free(set->group[d]);
        set->group[d] = n.values;
        set->groups[d] = n.count;
    }
    numbering n = {0};
    int32_t alone = 0;
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        item->cluster_index = item->cluster.size > 0 ? number_of(&n, item->cluster) : -1;
    }
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        item->cluster_index = item->cluster_index < 0 ? n.count + alone++ : item->cluster_index;
    }
    set->clusters = n.count + alone;
    free(n.slots);
    free(n.values);
}

bif_status bif_score_prepare(bif_score_set *set)
{
    number_groups(set);
    return index_ids(set);
}

bif_status bif_score_open(const bif_score_task *task, const char *const *references, size_t count, bif_score_set **out)
{
    bif_status st = BIF_OK;
    bif_score_set *set = bif_calloc(1, sizeof *set);
    set->task = task;
    BIF_TRY(task->read(set, references, count));
    if (set->count == 0 || set->count > INT32_MAX) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %s", references[0], set->count == 0 ? "no questions in it" : "more than 2^31 questions"));
    }
    st = bif_score_prepare(set);
    if (st != BIF_OK) {
        BIF_TRY(bif_fail_context(st, "%s", references[0]));
    }
    set->notes_read = set->note_count;
    *out = set;
    set = NULL;
done:
    bif_score_close(set);
    return st;
}

void bif_score_close(bif_score_set *set)
{
    if (set == NULL) {
        return;
    }
    if (set->own != NULL && set->task->close != NULL) {
        set->task->close(set);
    }
    for (size_t i = 0; i < set->file_count; i++) {
        bif_scan_close(set->files[i]);
    }
    while (set->blocks != NULL) {
        struct bif_score_block *next = set->blocks->next;
        free(set->blocks);
        set->blocks = next;
    }
    for (int d = 0; d < BIF_SCORE_GROUPS; d++) {
        free(set->group[d]);
    }
    forget_notes(set, 0);
    free(set->notes);
    free(set->slots);
    free(set->other_slots);
    free(set->other_next);
    free(set->files);
    free(set->items);
    free(set);
}

/* ---- numbers ---- */

bif_status bif_score_run(bif_score_set *set, bif_norm norm)
{
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        item->score = 0.0;
        memset(item->value, 0, sizeof item->value);
        item->unparsed = false;
        item->parsed = (bif_span){0};
    }
    set->norm = norm;
    forget_notes(set, set->notes_read);
    const bif_status st = set->task->score(set, norm);
    for (int64_t i = 0; i < set->count; i++) { /* the empty text is right for some answers, as for VQA's "a" without its article */
        set->items[i].score = set->items[i].line > 0 ? set->items[i].score : 0.0;
    }
    return st;
}

int64_t bif_score_unparsed(const bif_score_set *set)
{
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        count += set->items[i].unparsed;
    }
    return count;
}

void bif_score_means(const bif_score_set *set, const char *name, const int32_t *weight, bif_metric_list *out)
{
    double sum = 0.0;
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        sum += set->items[i].extra ? 0.0 : weight[i] * set->items[i].score;
        count += set->items[i].extra ? 0 : weight[i];
    }
    bif_metric_add(out, 100.0 * sum / (double)count, count, "%s", name);
    for (int d = 0; d < BIF_SCORE_GROUPS; d++) {
        const int32_t groups = set->groups[d];
        double *sums = bif_calloc((size_t)groups + 1, sizeof *sums);
        int64_t *counts = bif_calloc((size_t)groups + 1, sizeof *counts);
        for (int64_t i = 0; i < set->count; i++) {
            const int32_t g = set->items[i].extra ? -1 : set->items[i].group_index[d];
            sums[g + 1] += weight[i] * set->items[i].score;
            counts[g + 1] += weight[i];
        }
        for (int32_t g = 0; g < groups; g++) {
            bif_metric_add(out, 100.0 * sums[g + 1] / (double)counts[g + 1], counts[g + 1], "%s/%.*s", name, (int)set->group[d][g].size,
                           set->group[d][g].text);
        }
        free(sums);
        free(counts);
    }
}

void bif_score_summary(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    int32_t *ones = NULL;
    if (weight == NULL) {
        ones = bif_calloc((size_t)set->count, sizeof *ones);
        for (int64_t i = 0; i < set->count; i++) {
            ones[i] = 1;
        }
        weight = ones;
    }
    out->count = 0;
    if (set->task->summarise != NULL) {
        set->task->summarise(set, weight, out);
    } else {
        bif_score_means(set, "accuracy", weight, out);
    }
    free(ones);
}
