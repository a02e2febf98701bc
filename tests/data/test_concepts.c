#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "data/concepts.h"

static const int64_t most = (int64_t)1 << 30;

static bif_concepts *make(const char *const *entry, int64_t count, bool fold_case)
{
    bif_concepts *concepts = NULL;
    size_t size[4096];
    for (int64_t i = 0; i < count; i++) {
        size[i] = strlen(entry[i]);
    }
    cr_assert_eq(bif_concepts_make("list", entry, size, count, fold_case, most, &concepts), BIF_OK, "%s", bif_error_message());
    return concepts;
}

static bool has(const bif_concepts_found *found, int64_t entry)
{
    for (int64_t i = 0; i < found->count; i++) {
        if (found->id[i] == entry) {
            return true;
        }
    }
    return false;
}

/* golden/make_concepts.py: Python's strings on awkward entries and captions. */
Test(concepts, matches_what_python_matches)
{
    char *path = bif_format("%s/golden/concepts/cases.json", getenv("BIFOCAL_TESTS"));
    json_t *cases = NULL;
    cr_assert_eq(bif_json_load_file(path, (size_t)1 << 24, &cases), BIF_OK, "%s", bif_error_message());
    const json_t *entries = json_object_get(cases, "entries"), *captions = json_object_get(cases, "captions");
    const size_t n = json_array_size(entries);
    const char *entry[4096];
    cr_assert(n > 200 && n < 4096);
    for (size_t i = 0; i < n; i++) {
        entry[i] = json_string_value(json_array_get(entries, i));
    }
    bif_concepts *concepts = make(entry, (int64_t)n, false);
    const bif_concepts_info info = bif_concepts_describe(concepts);
    cr_assert_eq(info.listed, (int64_t)n);
    cr_assert_eq(info.empty, 3);
    cr_assert_eq(info.empty + info.duplicate + info.unmatchable + info.entries, (int64_t)n);
    bif_concepts_found found = {0};
    int64_t total = 0;
    for (size_t c = 0; c < json_array_size(captions); c++) {
        const char *caption = json_string_value(json_array_get(captions, c));
        const json_t *want = json_array_get(json_object_get(cases, "matches"), c);
        bif_concepts_match(concepts, caption, strlen(caption), &found);
        int64_t distinct = 0;
        bool met[4096] = {false};
        for (size_t i = 0; i < json_array_size(want); i++) {
            const char *name = entry[json_integer_value(json_array_get(want, i))];
            if (strspn(name, " ") == strlen(name)) {
                continue;
            }
            const int64_t id = bif_concepts_find(concepts, name, strlen(name));
            cr_assert_geq(id, 0, "'%s' matches '%s' and is not known", name, caption);
            cr_assert(has(&found, id), "'%s' was not found in '%s'", name, caption);
            distinct += !met[id];
            met[id] = true;
        }
        cr_assert_eq(found.count, distinct, "'%s': %lld entries, not %lld", caption, (long long)found.count, (long long)distinct);
        total += distinct;
    }
    cr_assert(total > 500);
    bif_concepts_found_free(&found);
    bif_concepts_free(concepts);
    json_decref(cases);
    free(path);
}

/* Few letters, so that entries overlap, contain and follow each other in all ways: each against strstr. */
Test(concepts, matches_what_a_search_of_each_finds)
{
    enum { ROUNDS = 60, ENTRIES = 150, CAPTIONS = 150, LONG = 60 };
    uint32_t draw = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char text[ENTRIES][16];
        const char *entry[ENTRIES];
        const char *alphabet = round % 3 == 0 ? "ab " : round % 3 == 1 ? "abcde ,  " : "a ";
        const int letters = (int)strlen(alphabet);
        for (int e = 0; e < ENTRIES; e++) {
            uint32_t r[4];
            int length = 0;
            for (;; length++) {
                bif_philox(7, BIF_RNG_TEST, (uint64_t)round, draw++, r);
                if (length >= 15 || (length > 0 && r[1] % 6 == 0)) {
                    break;
                }
                text[e][length] = alphabet[r[0] % (uint32_t)letters];
            }
            text[e][length] = '\0';
            entry[e] = text[e];
        }
        bif_concepts *concepts = make(entry, ENTRIES, false);
        bif_concepts_found found = {0};
        for (int c = 0; c < CAPTIONS; c++) {
            char caption[LONG + 1], spaced[3 * LONG + 3] = " ";
            uint32_t r[4];
            bif_philox(8, BIF_RNG_TEST, (uint64_t)round, draw++, r);
            const int length = (int)(r[0] % LONG);
            for (int i = 0; i < length; i++) {
                bif_philox(9, BIF_RNG_TEST, (uint64_t)round, draw++, r);
                caption[i] = alphabet[r[0] % (uint32_t)letters];
            }
            caption[length] = '\0';
            for (int i = 0, n = 1; i <= length; i++) {
                n += sprintf(spaced + n, caption[i] == ',' ? " %c " : "%c", i < length ? caption[i] : ' ');
            }
            bif_concepts_match(concepts, caption, (size_t)length, &found);
            int64_t count = 0;
            bool met[ENTRIES] = {false};
            for (int e = 0; e < ENTRIES; e++) {
                char needle[20];
                sprintf(needle, " %s ", entry[e]);
                if (strspn(entry[e], " ") == strlen(entry[e]) || strstr(spaced, needle) == NULL) {
                    continue;
                }
                const int64_t id = bif_concepts_find(concepts, entry[e], strlen(entry[e]));
                cr_assert(id >= 0 && has(&found, id), "'%s' in '%s'", entry[e], caption);
                count += !met[id];
                met[id] = true;
            }
            cr_assert_eq(found.count, count, "'%s': %lld, not %lld", caption, (long long)found.count, (long long)count);
        }
        bif_concepts_found_free(&found);
        bif_concepts_free(concepts);
    }
}

/* A caption with every entry several times: nested ones ("n 1", "n 1 n 2", ...) too, each found once; and the next caption starts anew. */
Test(concepts, finds_many_in_one_caption)
{
    enum { N = 300 };
    static char text[2 * N][32], caption[16 * N];
    const char *entry[2 * N];
    int length = 0;
    for (int i = 0; i < N; i++) {
        sprintf(text[i], "n%d", i);
        sprintf(text[N + i], "n%d n%d", i, (i + 1) % N);
        entry[i] = text[i];
        entry[N + i] = text[N + i];
    }
    for (int i = 0; i <= 2 * N; i++) {
        length += sprintf(caption + length, "n%d ", i % N);
    }
    bif_concepts *concepts = make(entry, 2 * N, false);
    bif_concepts_found found = {0};
    for (int round = 0; round < 3; round++) {
        static int times[2 * N];
        memset(times, 0, sizeof times);
        bif_concepts_match(concepts, caption, (size_t)length, &found);
        cr_assert_eq(found.count, 2 * N);
        for (int64_t i = 0; i < found.count; i++) {
            cr_assert_eq(++times[found.id[i]], 1);
        }
        bif_concepts_match(concepts, "n5 n6", 5, &found);
        cr_assert_eq(found.count, 3);
    }
    bif_concepts_found_free(&found);
    bif_concepts_free(concepts);
}

Test(concepts, says_what_it_leaves_out)
{
    const char *const entry[] = {"cat", "", "dog", "cat", "  ", "U.S.", "a\tb", "? !", "?  !", ".", "Cat"};
    bif_concepts *concepts = make(entry, 11, false);
    bif_concepts_info info = bif_concepts_describe(concepts);
    cr_assert_eq(info.listed, 11);
    cr_assert_eq(info.empty, 2);
    cr_assert_eq(info.duplicate, 1);
    cr_assert_eq(info.unmatchable, 3);
    cr_assert_eq(info.entries, 5);
    size_t size = 0;
    cr_assert(strncmp(bif_concepts_name(concepts, 2, &size), "?  !", 4) == 0 && size == 4);
    cr_assert_eq(bif_concepts_find(concepts, "Cat", 3), 4);
    cr_assert_eq(bif_concepts_find(concepts, "ca", 2), -1);
    cr_assert_eq(bif_concepts_find(concepts, "og", 2), -1);
    bif_concepts_free(concepts);
    concepts = make(entry, 11, true);
    cr_assert_eq(bif_concepts_describe(concepts).entries, 4);
    cr_assert_eq(bif_concepts_find(concepts, "DOG", 3), 1);
    bif_concepts_free(concepts);
}

Test(concepts, folds_case_when_asked)
{
    const char *const entry[] = {"Ångström", "NEW YORK", "Ⱥ"};
    const char caption[] = "the ÅNGSTRÖM in new york, ⱥ \xff";
    bif_concepts *concepts = make(entry, 3, true);
    bif_concepts_found found = {0};
    bif_concepts_match(concepts, caption, sizeof caption - 1, &found);
    cr_assert_eq(found.count, 3);
    bif_concepts_free(concepts);
    bif_concepts_found_free(&found);
    concepts = make(entry, 3, false);
    bif_concepts_match(concepts, caption, sizeof caption - 1, &found);
    cr_assert_eq(found.count, 0);
    bif_concepts_free(concepts);
    bif_concepts_found_free(&found);
}

Test(concepts, refuses_what_does_not_fit)
{
    const char *const entry[] = {"cat"}, *const none[] = {"a,b", " "};
    const size_t size[] = {3}, sizes[] = {3, 1};
    bif_concepts *concepts = NULL;
    cr_assert_eq(bif_concepts_make("list", entry, size, 1, false, 1000, &concepts), BIF_ERR_MEMORY);
    cr_assert(strstr(bif_error_message(), "--memory-mib") != NULL);
    cr_assert_eq(bif_concepts_make("list", none, sizes, 2, false, most, &concepts), BIF_ERR_DATA);
    cr_assert_null(concepts);
}
