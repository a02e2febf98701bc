/* What the tests of scoring tasks share. */
#pragma once
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "eval/jsonl.h"
#include "eval/score.h"

static inline char *golden_file(const char *folder, const char *name)
{
    return bif_format("%s/golden/%s/%s", getenv("BIFOCAL_TESTS"), folder, name);
}

static inline bif_score_set *golden_open(const char *task, const char *const *references, size_t count)
{
    bif_score_set *set = NULL;
    cr_assert_eq(bif_score_open(bif_score_task_by_name(task), references, count, &set), BIF_OK, "%s", bif_error_message());
    return set;
}

static inline void golden_predict(bif_score_set *set, const char *path)
{
    bif_score_counts counts;
    cr_assert_eq(bif_score_predictions(set, path, &(bif_score_policy){0}, &counts), BIF_OK, "%s", bif_error_message());
}

static inline double golden_metric(const bif_metric_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0) {
            return list->items[i].value;
        }
    }
    cr_assert_fail("no metric %s", name);
    return 0.0;
}

/* Every number of an object name: value, relative to 1e-12. */
static inline void golden_metrics(const bif_metric_list *list, json_t *wanted)
{
    const char *name;
    json_t *value;
    cr_assert_gt(json_object_size(wanted), 0);
    json_object_foreach(wanted, name, value)
    {
        const double w = json_number_value(value), got = golden_metric(list, name);
        cr_assert(got - w < 1e-9 && w - got < 1e-9, "%s: %.15g, wanted %.15g", name, got, w);
    }
}

/* Writes a file of a folder of the test's own. */
static inline char *write_file(const char *folder, const char *name, const char *text)
{
    char *path = bif_path_join(folder, name), *parent = bif_path_parent(path);
    cr_assert_eq(bif_make_dirs(parent), BIF_OK);
    cr_assert_eq(bif_file_write(path, text, strlen(text)), BIF_OK);
    free(parent);
    return path;
}
