/* Matching captions against a list of concepts: build time, memory, MB of captions a second on one core.
 * bench_concepts ENTRIES.json CAPTIONS.txt COUNTS.tsv   a caption a line; COUNTS.tsv gets the matches of each entry
 * concepts_vs_python.py makes the files, and compares counts and times with pyahocorasick and a plain loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "data/concepts.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bif_concepts *concepts = NULL;
    bif_concepts_found found = {0};
    char *text = NULL;
    size_t size = 0;
    double *counts = NULL, best = 1e300;
    long long captions = 0, matches = 0;
    if (argc != 4) {
        fprintf(stderr, "usage: bench_concepts ENTRIES.json CAPTIONS.txt COUNTS.tsv\n");
        return BIF_ERR_USAGE;
    }
    const double begun = now();
    BIF_TRY(bif_concepts_open(argv[1], false, (int64_t)4 << 30, &concepts));
    const double built = now() - begun;
    const bif_concepts_info info = bif_concepts_describe(concepts);
    BIF_TRY(bif_file_read(argv[2], (size_t)8 << 30, &text, &size));
    counts = calloc((size_t)info.entries, sizeof *counts);
    for (int round = 0; round < 3; round++) {
        const double start = now();
        captions = matches = 0;
        for (char *at = text, *end = text + size; at < end; captions++) {
            char *line = memchr(at, '\n', (size_t)(end - at));
            line = line != NULL ? line : end;
            bif_concepts_match(concepts, at, (size_t)(line - at), &found);
            matches += found.count;
            for (int64_t i = 0; i < found.count && round == 0; i++) {
                counts[found.id[i]]++;
            }
            at = line + 1;
        }
        const double took = now() - start;
        best = took < best ? took : best;
    }
    BIF_TRY(bif_concepts_write_counts(concepts, argv[3], counts));
    printf("{\"entries\": %lld, \"states\": %lld, \"mib\": %.1f, \"build_s\": %.3f, ", (long long)info.entries, (long long)info.states,
           (double)info.bytes / 1048576.0, built);
    printf("\"captions\": %lld, \"matches\": %lld, \"s\": %.4f, \"mb_per_s\": %.2f}\n", captions, matches, best, (double)size / best / 1e6);
done:
    if (st != BIF_OK) {
        fprintf(stderr, "bench_concepts: %s\n", bif_error_message());
    }
    free(counts);
    free(text);
    bif_concepts_found_free(&found);
    bif_concepts_free(concepts);
    return (int)st;
}
