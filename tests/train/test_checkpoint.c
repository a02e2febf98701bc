#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "train/checkpoint_parts.h"
#include "train/networks.h"
#include "host_device.h"

static char folder[] = "/tmp/bif-checkpoint-XXXXXX";
static char output[64];
static bif_comm *comm;
static bif_device device;
static bif_vlm model;
static bif_moments moments;
static bif_run_state state;

static const bif_model_config tiny = {.kind = BIF_MODEL_DECODER,
                                      .decoder = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 8, .inner = 24, .vocab = 32,
                                                  .positions = 64, .eps = 1e-5f, .rope_theta = 1e4f, .bos = 1, .eos = 2},
                                      .image_token = -1,
                                      .pad_token = -1};

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(output, sizeof output, "%s/run", folder);
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK);
    device = host_device();
    bif_vlm_declare(&model, &tiny);
    cr_assert_eq(bif_vlm_allocate(&model, &device, 1), BIF_OK);
    bif_params_init(&model.params, 5, ~0u);
    moments = (bif_moments){.m = bif_calloc((size_t)model.params.flat, 4), .v = bif_calloc((size_t)model.params.flat, 4),
                            .count = model.params.flat};
    for (int64_t i = 0; i < model.params.count; i++) { /* padding stays 0 */
        const bif_param *p = &model.params.items[i];
        for (int64_t k = p->offset; k < p->offset + bif_numel(&p->value); k++) {
            moments.m[k] = (float)k;
            moments.v[k] = 0.5f + (float)k;
        }
    }
    state = (bif_run_state){.seed = ~0ull, .bad_steps = 3, .metrics_bytes = 12345, .skipped = 2};
    snprintf(state.config_digest, 33, "0123456789abcdef0123456789abcdef");
    snprintf(state.data_digest, 33, "fedcba9876543210fedcba9876543210");
}

static void teardown(void)
{
    bif_vlm_free(&model);
    free(moments.m);
    free(moments.v);
    bif_remove_tree(folder);
    bif_comm_finish(comm);
}

TestSuite(checkpoint, .init = setup, .fini = teardown);

static bif_status save(int64_t step, int keep)
{
    state.step = step;
    return bif_checkpoint_save(comm, &device, output, &tiny, &model.params, NULL, &moments, &state, NULL, keep);
}

/* The base name of the newest valid checkpoint, "" if none, "all damaged". Static buffer. */
static const char *newest(void)
{
    static char name[64];
    char *path = NULL;
    const bif_status st = bif_checkpoint_find(comm, output, &path);
    cr_assert(st == BIF_OK || (st == BIF_ERR_DATA && path == NULL && strstr(bif_error_message(), "none of its") != NULL), "%s", bif_error_message());
    snprintf(name, sizeof name, "%s", st != BIF_OK ? "all damaged" : path == NULL ? "" : bif_path_base(path));
    free(path);
    return name;
}

static int entries(void)
{
    int count = 0;
    DIR *dir = opendir(output);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        count += e->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

Test(checkpoint, round_trip)
{
    cr_expect_str_eq(newest(), "", "a folder that does not exist has no checkpoint");
    state.best_step = 5;
    state.best_score = 31.4;
    snprintf(state.best_of, 33, "00112233445566778899aabbccddeeff");
    cr_assert_eq(save(7, 2), BIF_OK, "%s", bif_error_message());
    cr_expect_str_eq(newest(), "step_00000007");
    char *path = NULL, before[33], after[33];
    cr_assert_eq(bif_checkpoint_find(comm, output, &path), BIF_OK);
    cr_assert_eq(bif_checkpoint_verify(path), BIF_OK);
    bif_params_digest(&model.params, true, before);
    bif_params_init(&model.params, 6, ~0u);
    float *m = bif_malloc((size_t)moments.count * 4), *v = bif_malloc((size_t)moments.count * 4);
    memset(m, 7, (size_t)moments.count * 4);
    memset(v, 7, (size_t)moments.count * 4);
    bif_moments read = {.m = m, .v = v, .count = moments.count};
    bif_run_state back = {0};
    cr_assert_eq(bif_checkpoint_load(comm, &device, path, &model.params, &read, &back), BIF_OK, "%s", bif_error_message());
    bif_params_digest(&model.params, true, after);
    cr_expect_str_eq(after, before);
    cr_expect_arr_eq(m, moments.m, (size_t)moments.count * 4);
    cr_expect_arr_eq(v, moments.v, (size_t)moments.count * 4);
    cr_expect_eq(back.step, 7);
    cr_expect_eq(back.seed, ~0ull);
    cr_expect_eq(back.bad_steps, 3);
    cr_expect_eq(back.metrics_bytes, 12345);
    cr_expect_eq(back.skipped, 2);
    cr_expect(back.best_step == 5 && back.best_score == 31.4);
    cr_expect_str_eq(back.best_of, state.best_of);
    cr_expect_str_eq(back.config_digest, state.config_digest);
    cr_expect_str_eq(back.data_digest, state.data_digest);
    free(m);
    free(v);
    free(path);
}

Test(checkpoint, older_ones_and_leftovers_are_removed)
{
    char name[128];
    for (int step = 1; step <= 5; step++) {
        cr_assert_eq(save(step, 3), BIF_OK);
    }
    cr_expect_eq(entries(), 3);
    static const char *const leftovers[] = {"step_00000009.tmp-1-2/trainer", "trash-7-step_00000001/x"};
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/%s", output, leftovers[i]);
        cr_assert_eq(bif_make_dirs(name), BIF_OK);
    }
    snprintf(name, sizeof name, "%s/config.yaml.tmp-77", output);
    cr_assert_eq(bif_file_write(name, "stage", 5), BIF_OK);
    snprintf(name, sizeof name, "%s/step_notes", output);
    cr_assert_eq(bif_make_dirs(name), BIF_OK);
    cr_expect_str_eq(newest(), "step_00000005");
    cr_expect_eq(entries(), 7, "a search removes nothing: the folder may be another job's");
    cr_assert_eq(save(6, 3), BIF_OK);
    cr_expect_eq(entries(), 4, "three checkpoints and step_notes, which is not ours");
    cr_assert_eq(save(6, 3), BIF_OK, "the same step again");
    cr_expect_eq(entries(), 4);
    cr_expect_str_eq(newest(), "step_00000006");
}

Test(checkpoint, the_best_stays)
{
    state.best_step = 2;
    for (int step = 1; step <= 6; step++) {
        cr_assert_eq(save(step, 2), BIF_OK);
    }
    char *path = bif_path_join(output, "step_00000002");
    cr_expect(bif_exists(path));
    cr_expect_eq(entries(), 3, "the best besides two");
    free(path);
    state.best_step = 6; /* the one before is no more than any other */
    cr_assert_eq(save(6, 2), BIF_OK);
    cr_expect_eq(entries(), 2);
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    cr_assert_not_null(f, "%s", path);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    const int c = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(c ^ 1, f);
    fclose(f);
}

Test(checkpoint, any_damage_falls_back_to_the_older_one)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors", "trainer/state.json",
                                        "trainer/optimizer-0000-of-0001.safetensors", "MANIFEST.json"};
    char path[160], backup[160];
    struct stat info;
    cr_assert_eq(save(1, 2), BIF_OK);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (int how = 0; how < 4; how++) {
            cr_assert_eq(save(2, 2), BIF_OK, "%s", bif_error_message());
            cr_assert_str_eq(newest(), "step_00000002");
            snprintf(path, sizeof path, "%s/step_00000002/%s", output, files[i]);
            snprintf(backup, sizeof backup, "%s/moved", folder);
            cr_assert_eq(stat(path, &info), 0, "%s", path);
            switch (how) {
            case 0:
                flip(path, 20 + (long)i); /* in the manifest: inside the format's name */
                break;
            case 1:
                flip(path, info.st_size / 2);
                break;
            case 2:
                cr_assert_eq(truncate(path, info.st_size - 3), 0); /* more than the manifest's last line end */
                break;
            default:
                cr_assert_eq(rename(path, backup), 0);
            }
            cr_expect_str_eq(newest(), "step_00000001", "%s, damage %d", files[i], how);
            cr_expect_not_null(strstr(bif_error_message(), "step_00000002"), "%s", bif_error_message());
        }
    }
}

Test(checkpoint, manifests_cannot_point_outside)
{
    cr_assert_eq(save(1, 2), BIF_OK);
    char path[128];
    snprintf(path, sizeof path, "%s/step_00000001", output);
    static const char *const names[] = {"../../../etc/passwd", "/etc/passwd", "trainer", "missing"};
    for (size_t i = 0; i < 4; i++) {
        json_t *files = json_array();
        json_array_append_new(files, json_pack("{s:s, s:i, s:s}", "name", names[i], "bytes", 0, "digest", "0"));
        cr_assert_eq(bif_manifest_write(path, 1, files), BIF_OK);
        cr_expect_eq(bif_checkpoint_verify(path), BIF_ERR_DATA, "%s", names[i]);
    }
    cr_assert_eq(bif_manifest_write(path, 1, json_array()), BIF_OK);
    cr_expect_eq(bif_checkpoint_verify(path), BIF_ERR_DATA);
    snprintf(path, sizeof path, "%s/step_00000001/MANIFEST.json", output);
    static const char *const texts[] = {"", "[]", "{}", "{\"format\":\"bifocal checkpoint\",\"version\":2,\"digest\":\"\"}"};
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(bif_file_write(path, texts[i], strlen(texts[i])), BIF_OK);
        cr_expect_str_eq(newest(), "all damaged");
    }
}

Test(checkpoint, a_full_disk_costs_only_that_checkpoint)
{
    cr_assert_eq(save(1, 1), BIF_OK);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096; /* model.safetensors does not fit; stands in for ENOSPC */
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    const bif_status st = save(2, 1);
    char *message = bif_strdup(bif_error_message());
    setrlimit(RLIMIT_FSIZE, &old);
    cr_expect_eq(st, BIF_ERR_IO);
    cr_expect_not_null(strstr(message, "step 2 was not saved"), "%s", message);
    free(message);
    cr_expect_eq(entries(), 1, "nothing of ours is left, and the older one is still there");
    cr_expect_str_eq(newest(), "step_00000001");
    cr_expect_eq(save(2, 1), BIF_OK);
    cr_expect_str_eq(newest(), "step_00000002");
}

/* Splits the flat space among `from` ranks, writes, and reads the parts of `to` ranks back; with lower halves of masters or without. */
static void reshard(int from, int to, uint16_t *low)
{
    char path[96];
    snprintf(path, sizeof path, "%s/w%d-%d/trainer", folder, from, to);
    cr_assert_eq(bif_make_dirs(path), BIF_OK);
    *strrchr(path, '/') = '\0';
    const int64_t flat = model.params.flat;
    for (int r = 0; r < from; r++) {
        const int64_t first = flat * r / from, last = flat * (r + 1) / from;
        bif_moments part = {.m = moments.m + first, .v = moments.v + first, .low = low == NULL ? NULL : low + first, .offset = first,
                            .count = last - first};
        char *name = bif_moments_name(r, from);
        cr_assert_eq(bif_moments_write(path, name, &device, &model.params, &part, NULL, NULL), BIF_OK);
        free(name);
    }
    for (int r = 0; r < to; r++) {
        const int64_t first = flat * r / to, count = flat * (r + 1) / to - first;
        bif_moments part = {.m = bif_malloc((size_t)count * 4), .v = bif_malloc((size_t)count * 4), .offset = first, .count = count};
        part.low = low == NULL ? NULL : bif_malloc((size_t)count * 2);
        memset(part.m, 9, (size_t)count * 4);
        memset(part.v, 9, (size_t)count * 4);
        if (low != NULL) {
            memset(part.low, 9, (size_t)count * 2);
        }
        cr_expect_eq(bif_moments_read(path, from, &device, &model.params, &part), BIF_OK, "%s", bif_error_message());
        cr_expect_arr_eq(part.m, moments.m + first, (size_t)count * 4);
        cr_expect_arr_eq(part.v, moments.v + first, (size_t)count * 4);
        if (low != NULL) {
            cr_expect_arr_eq(part.low, low + first, (size_t)count * 2);
        }
        free(part.m);
        free(part.v);
        free(part.low);
    }
}

Test(checkpoint, moments_fit_any_number_of_ranks)
{
    static const int worlds[][2] = {{1, 1}, {1, 3}, {3, 1}, {2, 5}, {4, 2}, {7, 4}};
    uint16_t *low = bif_calloc((size_t)model.params.flat, sizeof *low);
    for (int64_t i = 0; i < model.params.count; i++) { /* padding stays 0 */
        const bif_param *p = &model.params.items[i];
        for (int64_t k = p->offset; k < p->offset + bif_numel(&p->value); k++) {
            low[k] = (uint16_t)(k * 31 + 1);
        }
    }
    for (size_t i = 0; i < 6; i++) {
        reshard(worlds[i][0], worlds[i][1], NULL);
        reshard(worlds[i][0], worlds[i][1], low);
    }
    free(low);
}

Test(checkpoint, missing_moments_are_named)
{
    char path[96];
    snprintf(path, sizeof path, "%s/gap/trainer", folder);
    cr_assert_eq(bif_make_dirs(path), BIF_OK);
    *strrchr(path, '/') = '\0';
    bif_moments part = {.m = moments.m, .v = moments.v, .count = moments.count - 32};
    char *name = bif_moments_name(0, 1);
    cr_assert_eq(bif_moments_write(path, name, &device, &model.params, &part, NULL, NULL), BIF_OK);
    free(name);
    cr_expect_eq(bif_moments_read(path, 1, &device, &model.params, &moments), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), model.params.items[model.params.count - 1].name), "%s", bif_error_message());
    cr_expect_eq(bif_moments_read(path, 2, &device, &model.params, &moments), BIF_ERR_IO, "the second file is not there");
}

/* Files of an f32 run hold no lower halves: who needs them is told so. */
Test(checkpoint, missing_lower_halves_are_named)
{
    char path[96];
    snprintf(path, sizeof path, "%s/gap/trainer", folder);
    cr_assert_eq(bif_make_dirs(path), BIF_OK);
    *strrchr(path, '/') = '\0';
    char *name = bif_moments_name(0, 1);
    cr_assert_eq(bif_moments_write(path, name, &device, &model.params, &moments, NULL, NULL), BIF_OK);
    free(name);
    moments.low = bif_calloc((size_t)moments.count, sizeof *moments.low);
    cr_expect_eq(bif_moments_read(path, 1, &device, &model.params, &moments), BIF_ERR_DATA);
    cr_expect_not_null(strstr(bif_error_message(), "low.model.embed_tokens.weight is missing or is not u16"), "%s", bif_error_message());
    free(moments.low);
}

Test(checkpoint, the_precision_is_recorded_and_another_one_refused)
{
    cr_assert_eq(save(4, 2), BIF_OK);
    char path[96];
    snprintf(path, sizeof path, "%s/step_00000004", output);
    bif_run_state back;
    int64_t world = 0;
    cr_assert_eq(bif_run_state_read(path, &back, &world), BIF_OK);
    cr_expect_eq(back.dtype, BIF_DTYPE_F32);
    bif_vlm half;
    bif_vlm_declare(&half, &tiny);
    bif_params_set_dtype(&half.params, BIF_DTYPE_BF16);
    cr_assert_eq(bif_vlm_allocate(&half, &device, 1), BIF_OK);
    cr_expect_eq(bif_checkpoint_load(comm, &device, path, &half.params, &moments, &back), BIF_ERR_CONFIG);
    cr_expect_not_null(strstr(bif_error_message(), "was trained in fp32, this run would go on in bf16; set precision: fp32"), "%s",
                       bif_error_message());
    bif_vlm_free(&half);
    cr_assert_eq(bif_run_state_write(path, &state, BIF_DTYPE_BF16, 1), BIF_OK);
    cr_assert_eq(bif_run_state_read(path, &back, &world), BIF_OK);
    cr_expect_eq(back.dtype, BIF_DTYPE_BF16);
    char *file = bif_path_join(path, "trainer/state.json");
    json_t *o = NULL;
    cr_assert_eq(bif_json_load_file(file, 1 << 20, &o), BIF_OK);
    json_object_set_new(o, "precision", json_string("fp8"));
    cr_assert_eq(bif_json_save_file(file, o), BIF_OK);
    cr_expect_eq(bif_run_state_read(path, &back, &world), BIF_ERR_DATA);
    json_object_del(o, "precision"); /* a state that does not say was made in fp32 */
    cr_assert_eq(bif_json_save_file(file, o), BIF_OK);
    cr_assert_eq(bif_run_state_read(path, &back, &world), BIF_OK);
    cr_expect_eq(back.dtype, BIF_DTYPE_F32);
    json_decref(o);
    free(file);
}
