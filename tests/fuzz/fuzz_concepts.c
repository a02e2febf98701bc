/* libFuzzer: a flag (fold case?), a list of entries, a zero byte and a caption: what the automaton finds is what a search of every entry finds. The list as a file, and
 * the caption as a file of counts, too. */
#include "data/concepts.h"
#include "fuzz.h"

/* The caption as the rule has it: padded, marks apart, white space as spaces. */
static char *spaced(const char *text, size_t size, size_t *used)
{
    char *out = bif_malloc(3 * size + 3);
    *used = 0;
    out[(*used)++] = ' ';
    for (size_t i = 0; i < size; i++) {
        const bool mark = text[i] != '\0' && strchr(",.;:?!`", text[i]) != NULL;
        if (mark) {
            out[(*used)++] = ' ';
        }
        out[(*used)++] = text[i] == '\t' || text[i] == '\n' || text[i] == '\r' ? ' ' : text[i];
        if (mark) {
            out[(*used)++] = ' ';
        }
    }
    out[(*used)++] = ' ';
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const bool fold = data[0] & 1;
    data++;
    size--;
    const fuzz_part list = fuzz_next(&data, &size);
    bif_concepts *concepts = NULL;
    const char *path = fuzz_file(list.data, list.size);
    if (bif_concepts_open(path, fold, (int64_t)64 << 20, &concepts) != BIF_OK) {
        fuzz_named(path);
        return 0;
    }
    const bif_concepts_info info = bif_concepts_describe(concepts);
    bif_concepts_found found = {0};
    bif_concepts_match(concepts, (const char *)data, size, &found);
    for (int64_t i = 0; i < found.count; i++) {
        BIF_BUG_IF(found.id[i] >= info.entries, "entry %u", found.id[i]);
    }
    if (!fold && info.entries < 200) {
        size_t length = 0;
        char *caption = spaced((const char *)data, size, &length);
        for (int64_t e = 0; e < info.entries; e++) {
            size_t bytes = 0;
            const char *name = bif_concepts_name(concepts, e, &bytes);
            char *wanted = bif_malloc(bytes + 2);
            wanted[0] = wanted[bytes + 1] = ' ';
            memcpy(wanted + 1, name, bytes);
            bool has = false;
            for (int64_t i = 0; i < found.count; i++) {
                has = has || found.id[i] == e;
            }
            BIF_BUG_IF(has != (memmem(caption, length, wanted, bytes + 2) != NULL), "entry %lld: found %d", (long long)e, has);
            free(wanted);
        }
        free(caption);
    }
    double *counts = bif_calloc((size_t)info.entries, sizeof *counts);
    int64_t lacking = 0;
    if (bif_concepts_read_counts(concepts, fuzz_file(data, size), counts, &lacking) == BIF_OK) {
        BIF_BUG_IF(lacking < 0 || lacking > info.entries, "lacking %lld", (long long)lacking);
    }
    free(counts);
    bif_concepts_found_free(&found);
    bif_concepts_free(concepts);
    return 0;
}
