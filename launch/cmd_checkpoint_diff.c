/* bifocal checkpoint diff */
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "kernels/tensor.h"
#include "launch/commands.h"
#include "launch/open_folder.h"

#define CONFIG_CAP ((size_t)16 << 20)

static const char help[] =
    "usage: bifocal checkpoint diff [--json] A B\n\n"
    "What differs between two folders of weights: tensors that only one has, of another shape or dtype, or with other numbers (relative L2\n"
    "and largest difference, against A), settings of config.json, files of the tokenizer. Tensors are matched by what they are, whatever the\n"
    "layout. A and B are Hugging Face folders, checkpoints, runs' folders (their newest whole checkpoint) or files of weights.\n"
    "Exit code 0 when all is equal, 65 when something differs.\n\n"
    "  --json   as JSON\n";

/* A tensor under the name of its table row, so that two layouts meet; under its own where the table has none. */
typedef struct {
    const char *name;
    const bif_st_entry *entry;
} named;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static named *names_of(const bif_folder *f, bool rows)
{
    const int64_t n = bif_safetensors_count(f->set);
    named *list = bif_calloc((size_t)n + 1, sizeof(*list));
    for (int64_t i = 0; i < n; i++) {
        const bif_st_entry *entry = bif_safetensors_at(f->set, i);
        list[i] = (named){rows && f->row_of[i] != NULL ? f->row_of[i]->name : entry->name, entry};
    }
    if (n > 0) {
        qsort(list, (size_t)n, sizeof(*list), by_name);
    }
    return list;
}

static char *shape_of(const bif_st_entry *entry)
{
    char text[96];
    bif_tensor t = {.dtype = entry->dtype, .rank = entry->rank};
    memcpy(t.dim, entry->dim, sizeof t.dim);
    return bif_strdup(bif_shape_text(&t, text, sizeof text));
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null(); /* JSON has no infinity */
}

static void compare_pair(const named *a, const named *b, json_t *changed, json_t *shapes)
{
    char *x = shape_of(a->entry), *y = shape_of(b->entry);
    if (!bif_same_shape(a->entry, b->entry)) {
        json_array_append_new(shapes, json_pack("{s:s, s:s, s:s}", "name", a->name, "a", x, "b", y));
    } else {
        const bif_difference d = bif_tensor_difference(a->entry, b->entry);
        if (!d.equal || a->entry->dtype != b->entry->dtype) {
            json_array_append_new(changed, json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", a->name, "a", x, "b", y, "relative_l2",
                                                     number(d.relative), "largest", number(d.largest)));
        }
    }
    free(x);
    free(y);
}

static void compare_tensors(const bif_folder *a, const bif_folder *b, json_t *root)
{
    const bool rows = a->known && b->known && a->config.kind == b->config.kind;
    named *x = names_of(a, rows), *y = names_of(b, rows);
    const int64_t n = bif_safetensors_count(a->set), m = bif_safetensors_count(b->set);
    json_t *only_a = json_array(), *only_b = json_array(), *shapes = json_array(), *changed = json_array();
    int64_t compared = 0;
    for (int64_t i = 0, k = 0; i < n || k < m;) {
        const int order = i == n ? 1 : k == m ? -1 : strcmp(x[i].name, y[k].name);
        if (order < 0) {
            json_array_append_new(only_a, json_string(x[i++].name));
        } else if (order > 0) {
            json_array_append_new(only_b, json_string(y[k++].name));
        } else {
            compare_pair(&x[i++], &y[k++], changed, shapes);
            compared++;
        }
    }
    json_object_set_new(root, "compared", json_integer((json_int_t)compared));
    json_object_set_new(root, "only_a", only_a);
    json_object_set_new(root, "only_b", only_b);
    json_object_set_new(root, "shapes", shapes);
    json_object_set_new(root, "changed", changed);
    free(x);
    free(y);
}

/* Every leaf of the tree under its dotted path. */
static void flatten(const json_t *value, const char *path, json_t *out)
{
    const char *key = NULL;
    json_t *child = NULL;
    if (!json_is_object(value)) {
        json_object_set(out, path, (json_t *)value);
        return;
    }
    json_object_foreach((json_t *)value, key, child)
    {
        char *below = path[0] == '\0' ? bif_strdup(key) : bif_format("%s.%s", path, key);
        flatten(child, below, out);
        free(below);
    }
}

static bif_status settings(const char *folder, json_t *out)
{
    json_t *root = NULL;
    char *path = bif_path_join(folder, "config.json");
    const bif_status st = bif_exists(path) ? bif_json_load_file(path, CONFIG_CAP, &root) : BIF_OK;
    if (st == BIF_OK && root != NULL) {
        flatten(root, "", out);
    }
    json_decref(root);
    free(path);
    return st;
}

static bif_status compare_settings(const bif_folder *a, const bif_folder *b, json_t *out)
{
    bif_status st = BIF_OK;
    json_t *x = json_object(), *y = json_object(), *value = NULL;
    const char *key = NULL;
    BIF_TRY(settings(a->path, x));
    BIF_TRY(settings(b->path, y));
    json_object_foreach(x, key, value)
    {
        const json_t *other = json_object_get(y, key);
        if (!json_equal(value, other)) {
            json_object_set_new(out, key, json_pack("{s:O, s:O*}", "a", value, "b", other));
        }
    }
    json_object_foreach(y, key, value)
    {
        if (json_object_get(x, key) == NULL) {
            json_object_set_new(out, key, json_pack("{s:O}", "b", value));
        }
    }
done:
    json_decref(x);
    json_decref(y);
    return st;
}

static bif_status compare_files(const bif_folder *a, const bif_folder *b, json_t *out)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "spiece.model", "tokenizer_config.json",
                                        "special_tokens_map.json", "chat_template.jinja", "generation_config.json",
                                        "preprocessor_config.json", "processor_config.json"};
    bif_status st = BIF_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && st == BIF_OK; i++) {
        char *x = bif_path_join(a->path, names[i]), *y = bif_path_join(b->path, names[i]), p[33] = "", q[33] = "";
        uint64_t size = 0;
        const bool in_a = bif_exists(x), in_b = bif_exists(y);
        st = in_a ? bif_digest_file(x, p, &size) : BIF_OK;
        st = st == BIF_OK && in_b ? bif_digest_file(y, q, &size) : st;
        if (strcmp(p, q) != 0) {
            json_object_set_new(out, names[i], json_string(!in_b ? "only in A" : !in_a ? "only in B" : "differs"));
        }
        free(x);
        free(y);
    }
    return st;
}

/* ---- as text ---- */

static void print_value(const char *side, const json_t *value)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    printf("%s %s", side, text == NULL ? "(not there)" : text);
    free(text);
}

static void print_names(const char *title, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        printf("%s %s\n", title, json_string_value(json_array_get(list, i)));
    }
}

static void print_number(const char *what, const json_t *value)
{
    if (json_is_real(value)) {
        printf("  %s %.3g", what, json_real_value(value));
    } else {
        printf("  %s infinite", what);
    }
}

static void print_text(const json_t *root)
{
    const json_t *shapes = json_object_get(root, "shapes"), *changed = json_object_get(root, "changed");
    const char *key = NULL;
    json_t *value = NULL;
    print_names("only in A", json_object_get(root, "only_a"));
    print_names("only in B", json_object_get(root, "only_b"));
    for (size_t i = 0; i < json_array_size(shapes); i++) {
        const json_t *o = json_array_get(shapes, i);
        printf("shape     %s  %s, %s\n", json_string_value(json_object_get(o, "name")), json_string_value(json_object_get(o, "a")),
               json_string_value(json_object_get(o, "b")));
    }
    for (size_t i = 0; i < json_array_size(changed); i++) {
        const json_t *o = json_array_get(changed, i);
        const char *x = json_string_value(json_object_get(o, "a")), *y = json_string_value(json_object_get(o, "b"));
        const bool same = strcmp(x, y) == 0;
        printf("differs   %s  %s%s%s", json_string_value(json_object_get(o, "name")), x, same ? "" : ", ", same ? "" : y);
        print_number("relative", json_object_get(o, "relative_l2"));
        print_number("largest", json_object_get(o, "largest"));
        putchar('\n');
    }
    json_object_foreach(json_object_get(root, "config"), key, value)
    {
        printf("config    %s ", key);
        print_value("", json_object_get(value, "a"));
        print_value(",", json_object_get(value, "b"));
        putchar('\n');
    }
    json_object_foreach(json_object_get(root, "files"), key, value)
    {
        printf("file      %s %s\n", key, json_string_value(value));
    }
    printf("%lld tensors in both, %zu differ, %zu of another shape, %zu only in A, %zu only in B\n",
           (long long)json_integer_value(json_object_get(root, "compared")), json_array_size(changed), json_array_size(shapes),
           json_array_size(json_object_get(root, "only_a")), json_array_size(json_object_get(root, "only_b")));
}

bif_status bif_cmd_checkpoint_diff(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    static const char *const parts[] = {"only_a", "only_b", "shapes", "changed"};
    bif_status st = BIF_OK;
    bif_folder a = {0}, b = {0};
    json_t *root = json_object(), *config = json_object(), *files = json_object();
    bool as_json = false;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            goto done;
        }
        if (c != 'j') {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "checkpoint diff: wrong option; see bifocal checkpoint diff --help"));
        }
        as_json = true;
    }
    if (argc - optind != 2) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "checkpoint diff: name two folders; see bifocal checkpoint diff --help"));
    }
    BIF_TRY(bif_folder_open(argv[optind], NULL, &a));
    BIF_TRY(bif_folder_open(argv[optind + 1], NULL, &b));
    json_object_set_new(root, "a", json_string(a.path));
    json_object_set_new(root, "b", json_string(b.path));
    compare_tensors(&a, &b, root);
    BIF_TRY(compare_settings(&a, &b, config));
    BIF_TRY(compare_files(&a, &b, files));
    json_object_set(root, "config", config);
    json_object_set(root, "files", files);
    if (as_json) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_text(root);
    }
    size_t differences = json_object_size(config) + json_object_size(files);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        differences += json_array_size(json_object_get(root, parts[i]));
    }
    if (differences > 0) {
        st = bif_fail(BIF_ERR_DATA, "%s and %s differ in %zu places", a.path, b.path, differences);
    }
done:
    json_decref(root);
    json_decref(config);
    json_decref(files);
    bif_folder_close(&a);
    bif_folder_close(&b);
    return st;
}
