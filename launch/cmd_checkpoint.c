/* bifocal checkpoint show | verify */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer.h"
#include "launch/commands.h"
#include "launch/open_folder.h"
#include "train/adapter.h"
#include "train/checkpoint.h"

#define STATE_CAP ((size_t)1 << 20)

static const char show_help[] =
    "usage: bifocal checkpoint show [--json] [--base DIR] [--tower DIR] FOLDER\n\n"
    "What a folder of weights holds: architecture, parameters by group, dtypes, files, tokenizer, template, state of the training.\n"
    "FOLDER is a Hugging Face folder, a checkpoint, a run's folder (its newest whole checkpoint) or one file of weights. Of a\n"
    "LoRA adapter what it is, and the model that it makes of its base.\n\n"
    "  --json        as JSON\n"
    "  --base DIR    the base of an adapter (the folder that its adapter_config.json names)\n"
    "  --tower DIR   the vision tower, where FOLDER only names it\n";

/* ---- what is in the folder, as JSON ---- */

static json_t *describe_vit(const bif_vit_config *c)
{
    return json_sprintf("%s ViT, %lld px in patches of %lld, %lld layers of %lld, %lld heads", c->family == BIF_TOWER_SIGLIP ? "SigLIP" : "CLIP",
                        (long long)c->image, (long long)c->patch, (long long)c->layers, (long long)c->hidden, (long long)c->heads);
}

static json_t *describe(const bif_model_config *c)
{
    static const char *const kinds[] = {"decoder", "clip", "llava"}; /* in the order of bif_model_kind */
    json_t *o = json_pack("{s:s}", "kind", c->kind == BIF_MODEL_CLIP && c->text.hidden == 0 ? "vision tower" : kinds[c->kind]);
    if (c->kind != BIF_MODEL_DECODER) {
        json_object_set_new(o, "encoder", describe_vit(&c->vit));
    }
    if (c->kind == BIF_MODEL_CLIP && c->text.hidden > 0) {
        json_object_set_new(o, "text tower",
                            json_sprintf("%lld layers of %lld, %lld heads, %lld tokens, %lld positions", (long long)c->text.layers,
                                         (long long)c->text.hidden, (long long)c->text.heads, (long long)c->text.vocab,
                                         (long long)c->text.positions));
        json_object_set_new(o, "joint space", json_sprintf("%lld", (long long)c->projection));
    }
    if (c->kind == BIF_MODEL_LLAVA) {
        json_object_set_new(o, "projector",
                            c->projector.kind == BIF_PROJECTOR_LINEAR ? json_string("linear")
                                                                      : json_sprintf("mlp%lldx_gelu", (long long)c->projector.depth));
        json_object_set_new(o, "feature layer", json_sprintf("%lld, %s", (long long)c->feature_layer,
                                                             c->cls_patch ? "class token and patches" : "patches"));
    }
    if (c->kind != BIF_MODEL_CLIP) {
        const bif_decoder_config *d = &c->decoder;
        char classes[48] = "";
        if (d->classes > 0) {
            snprintf(classes, sizeof classes, " (%lld in the softmax)", (long long)d->classes);
        }
        json_object_set_new(o, "decoder",
                            json_sprintf("%lld layers of %lld, %lld heads, %lld of keys, MLP %lld, %lld tokens%s, %lld positions%s%s%s",
                                         (long long)d->layers, (long long)d->hidden, (long long)d->heads, (long long)d->kv_heads,
                                         (long long)d->inner, (long long)d->vocab, classes, (long long)d->positions, d->tied ? ", tied head" : "",
                                         d->qkv_bias ? ", qkv biases" : "", d->qk_norm ? ", q and k norms" : ""));
    }
    return o;
}

static int64_t entry_elements(const bif_st_entry *entry)
{
    return (int64_t)(entry->bytes / bif_dtype_size(entry->dtype));
}

static void count_into(json_t *groups, const char *key, int64_t elements)
{
    json_t *o = json_object_get(groups, key);
    if (o == NULL) {
        o = json_pack("{s:i, s:i}", "tensors", 0, "elements", 0);
        json_object_set_new(groups, key, o);
    }
    json_object_set_new(o, "tensors", json_integer(json_integer_value(json_object_get(o, "tensors")) + 1));
    json_object_set_new(o, "elements", json_integer(json_integer_value(json_object_get(o, "elements")) + elements));
}

static void count_tensors(const bif_folder *f, json_t *root)
{
    json_t *groups = json_object(), *dtypes = json_object();
    for (int64_t i = 0; i < bif_safetensors_count(f->set); i++) {
        const bif_st_entry *entry = bif_safetensors_at(f->set, i);
        count_into(groups, f->row_of[i] == NULL ? "other" : bif_group_name(f->row_of[i]->group), entry_elements(entry));
        count_into(dtypes, bif_dtype_name(entry->dtype), entry_elements(entry));
    }
    json_object_set_new(root, "groups", groups);
    json_object_set_new(root, "dtypes", dtypes);
    json_object_set_new(root, "missing", json_integer((json_int_t)(f->rows.count - f->found)));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of an adapter: what it is, upon how many tensors, and where its base lies. */
static bif_status add_adapter(const bif_folder *f, const bif_beside *beside, json_t *root)
{
    bif_status st = BIF_OK;
    bif_adapter adapter = {0};
    char *base = NULL;
    int64_t adapted = 0;
    if (!bif_adapter_is(f->path)) {
        return BIF_OK;
    }
    BIF_TRY(bif_adapter_read(f->path, &adapter));
    BIF_TRY(bif_adapter_base(f->path, beside->base, &base));
    for (int64_t i = 0; i < bif_safetensors_count(f->set); i++) {
        adapted += bif_safetensors_at(f->set, i)->delta != NULL;
    }
    json_object_set_new(root, "adapter",
                        json_sprintf("LoRA of rank %lld, alpha %g (scale %g), %lld matrices, upon %s", (long long)adapter.rank,
                                     adapter.alpha, (double)adapter.scale, (long long)adapted, base));
done:
    bif_adapter_free(&adapter);
    free(base);
    return st;
}

/* The regular files of FOLDER/BELOW with their lengths, by name. */
static bif_status list_files(const char *folder, const char *below, json_t *out)
{
    char **names = NULL;
    size_t count = 0;
    char *path = bif_path_join(folder, below);
    DIR *dir = opendir(path);
    const int err = errno;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        names = bif_realloc(names, count + 1, sizeof(*names));
        names[count++] = bif_format("%s%s", below, entry->d_name);
    }
    if (count > 0) {
        qsort(names, count, sizeof(*names), by_text);
    }
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        char *full = bif_path_join(folder, names[i]);
        if (stat(full, &info) == 0 && S_ISREG(info.st_mode)) {
            json_object_set_new(out, names[i], json_integer((json_int_t)info.st_size));
        }
        free(full);
        free(names[i]);
    }
    free(names);
    const bif_status st = dir == NULL && err != ENOENT && err != ENOTDIR ? bif_fail_errno(err, "cannot list '%s'", path) : BIF_OK;
    if (dir != NULL) {
        closedir(dir);
    }
    free(path);
    return st;
}

static void add_tokenizer(const bif_folder *f, json_t *root)
{
    bif_tokenizer *tokenizer = NULL;
    char *path = bif_tokenizer_in(f->path);
    json_t *text = json_null();
    if (path != NULL) {
        text = bif_tokenizer_load(path, &tokenizer) == BIF_OK
                   ? json_sprintf("%s, %lld tokens", bif_path_base(path), (long long)bif_tokenizer_vocab(tokenizer))
                   : json_sprintf("%s cannot be used: %s", bif_path_base(path), bif_error_message());
        bif_error_clear();
    }
    json_object_set_new(root, "tokenizer", text);
    bif_tokenizer_free(tokenizer);
    free(path);
}

static bif_status add_state(const bif_folder *f, json_t *root)
{
    bif_status st = BIF_OK;
    json_t *state = NULL;
    char *path = bif_path_join(f->path, "trainer/state.json");
    if (bif_exists(path)) {
        BIF_TRY(bif_json_load_file(path, STATE_CAP, &state));
        json_object_set(root, "training", state);
    }
done:
    json_decref(state);
    free(path);
    return st;
}

static bif_status look(const bif_folder *f, const bif_beside *beside, json_t *root)
{
    bif_status st = BIF_OK;
    json_t *files = json_object();
    json_object_set_new(root, "folder", json_string(f->path));
    if (f->known) {
        json_object_set_new(root, "architecture", describe(&f->config));
    } else {
        json_object_set_new(root, "unknown", json_string(f->why));
    }
    BIF_TRY(add_adapter(f, beside, root));
    count_tensors(f, root);
    BIF_TRY(list_files(f->path, "", files));
    BIF_TRY(list_files(f->path, "trainer/", files));
    json_object_set(root, "files", files);
    add_tokenizer(f, root);
    if (f->known && f->config.template_name[0] != '\0') {
        json_object_set_new(root, "template", json_string(f->config.template_name));
        json_object_set_new(root, "image_fit", json_string(f->config.image_fit));
    }
    if (f->known && f->config.has_system) {
        json_object_set_new(root, "system", json_string(f->config.system));
    }
    BIF_TRY(add_state(f, root));
done:
    json_decref(files);
    return st;
}

/* ---- the same as text ---- */

static void print_object(const char *title, const json_t *object)
{
    const char *key = NULL;
    json_t *value = NULL;
    if (json_object_size(object) > 0) {
        printf("%s\n", title);
    }
    json_object_foreach((json_t *)object, key, value)
    {
        if (json_is_object(value)) {
            printf("  %-24s %6lld tensors %16lld elements\n", key, (long long)json_integer_value(json_object_get(value, "tensors")),
                   (long long)json_integer_value(json_object_get(value, "elements")));
        } else if (json_is_integer(value)) {
            printf("  %-40s %16lld\n", key, (long long)json_integer_value(value));
        } else {
            printf("  %-24s %s\n", key, json_string_value(value) == NULL ? "none" : json_string_value(value));
        }
    }
}

static void print_text(const json_t *root)
{
    static const char *const plain[] = {"unknown", "adapter", "tokenizer", "template", "image_fit", "system"};
    printf("%s\n", json_string_value(json_object_get(root, "folder")));
    print_object("architecture", json_object_get(root, "architecture"));
    print_object("parameters", json_object_get(root, "groups"));
    const long long missing = (long long)json_integer_value(json_object_get(root, "missing"));
    if (missing > 0) {
        printf("  %lld tensors of this architecture are not in the folder\n", missing);
    }
    print_object("dtypes", json_object_get(root, "dtypes"));
    print_object("files, bytes", json_object_get(root, "files"));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const json_t *value = json_object_get(root, plain[i]);
        char *text = json_is_string(value) ? json_dumps(value, JSON_ENCODE_ANY) : NULL; /* quoted: a system text has lines */
        if (text != NULL) {
            printf("%-10s %s\n", plain[i], text);
        }
        free(text);
    }
    print_object("training", json_object_get(root, "training"));
}

bif_status bif_cmd_checkpoint_show(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"base", required_argument, NULL, 'b'},
                                            {"tower", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_folder folder = {0};
    bif_beside beside = {0};
    json_t *root = json_object();
    bool as_json = false;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(show_help, stdout);
            goto done;
        }
        if (c != 'j' && c != 'b' && c != 't') {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "checkpoint show: wrong option; see bifocal checkpoint show --help"));
        }
        as_json = as_json || c == 'j';
        beside.base = c == 'b' ? optarg : beside.base;
        beside.tower = c == 't' ? optarg : beside.tower;
    }
    if (argc - optind != 1) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "checkpoint show: name one folder; see bifocal checkpoint show --help"));
    }
    BIF_TRY(bif_folder_open(argv[optind], &beside, &folder));
    BIF_TRY(look(&folder, &beside, root));
    if (as_json) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_text(root);
    }
done:
    json_decref(root);
    bif_folder_close(&folder);
    return st;
}

static const char verify_help[] =
    "usage: bifocal checkpoint verify [--no-scan] [--base DIR] [--tower DIR] FOLDER...\n\n"
    "Checks folders of weights: lengths and offsets of every file, the digests of MANIFEST.json where there is one, that every tensor of\n"
    "the architecture is there, and that no number is NaN or infinite. Prints one line a folder; the exit code is 65 when one is not good.\n"
    "Of a run's folder its newest checkpoint, whole or not; for the others name the step_* folders.\n\n"
    "  --no-scan     do not look for NaN and infinity\n"
    "  --base DIR    the base of a LoRA adapter (the folder that its adapter_config.json names)\n"
    "  --tower DIR   the vision tower, where FOLDER only names it\n";

static bif_status scan(const bif_folder *f)
{
    for (int64_t i = 0; i < bif_safetensors_count(f->set); i++) {
        const bif_st_entry *entry = bif_safetensors_at(f->set, i);
        int64_t nans = 0, infinite = 0;
        bif_tensor_scan(entry, &nans, &infinite);
        if (nans + infinite > 0) {
            return bif_fail(BIF_ERR_DATA, "%s: tensor %s holds %" PRId64 " NaN and %" PRId64 " infinite of %" PRId64 " numbers",
                            bif_safetensors_path(f->set, entry), entry->name, nans, infinite, entry_elements(entry));
        }
    }
    return BIF_OK;
}

static bif_status verify_one(const char *given, const bif_beside *beside, bool no_scan)
{
    bif_status st = BIF_OK;
    bif_folder folder = {0};
    struct stat info;
    char *manifest = bif_path_join(given, "MANIFEST.json"), *newest = NULL;
    bool listed = bif_exists(manifest);
    if (stat(given, &info) == 0 && S_ISDIR(info.st_mode) && !bif_hf_is_folder(given) && !listed) {
        BIF_TRY(bif_checkpoint_last(given, &newest));
        BIF_TRY(newest != NULL ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s holds no config.json, and no step_* folder of a run", given));
        free(manifest);
        manifest = bif_path_join(newest, "MANIFEST.json");
        listed = bif_exists(manifest);
        BIF_TRY(listed ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s, the newest checkpoint, has no MANIFEST.json", newest));
    }
    const char *path = newest != NULL ? newest : given;
    if (listed) {
        BIF_TRY(bif_checkpoint_verify(path));
    }
    BIF_TRY(bif_folder_open(path, beside, &folder));
    if (folder.known && folder.found < folder.rows.count) {
        st = bif_fail(BIF_ERR_DATA, "%s: %" PRId64 " of the architecture's %" PRId64 " tensors are missing", path,
                      folder.rows.count - folder.found, folder.rows.count);
        goto done;
    }
    if (!no_scan) {
        BIF_TRY(scan(&folder));
    }
    printf("%s: good, %" PRId64 " tensors%s%s%s\n", path, bif_safetensors_count(folder.set), listed ? ", digests checked" : ", no manifest",
           folder.known ? "" : ", architecture not checked: ", folder.known ? "" : folder.why);
done:
    bif_folder_close(&folder);
    free(manifest);
    free(newest);
    return st;
}

bif_status bif_cmd_checkpoint_verify(int argc, char **argv)
{
    static const struct option options[] = {{"no-scan", no_argument, NULL, 'n'},
                                            {"base", required_argument, NULL, 'b'},
                                            {"tower", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK, worst = BIF_OK;
    bif_beside beside = {0};
    bool no_scan = false;
    int bad = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(verify_help, stdout);
            goto done;
        }
        if (c != 'n' && c != 'b' && c != 't') {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "checkpoint verify: wrong option; see bifocal checkpoint verify --help"));
        }
        no_scan = no_scan || c == 'n';
        beside.base = c == 'b' ? optarg : beside.base;
        beside.tower = c == 't' ? optarg : beside.tower;
    }
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "checkpoint verify: name at least one folder; see bifocal checkpoint verify --help"));
    }
    for (int i = optind; i < argc; i++) {
        const bif_status one = verify_one(argv[i], &beside, no_scan);
        if (one != BIF_OK) {
            printf("%s: bad: %s\n", argv[i], bif_error_message());
            worst = worst == BIF_OK || worst == BIF_ERR_DATA ? one : worst;
            bad++;
        }
    }
    if (bad > 0) {
        st = bif_fail(worst, "%d of %d folders are not good", bad, argc - optind);
    }
done:
    return st;
}
