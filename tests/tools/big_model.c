/* Weights that are large for the memory there is, and what opening them takes.
 *   big_model make FOLDER small|7b SHARD_BYTES   a LLaVA-1.5 in bf16 with cheap pseudo-random weights: 7b is the real shape (14.1 GB),
 *                                                small a tenth of its widths (130 MB)
 *   big_model load FOLDER bf16|f32               into a table on the host, as a run loads it
 *   big_model export FOLDER OUT SHARD_BYTES      as `bifocal export --format hf`
 *   big_model gguf FOLDER OUT TOKENIZER          as `bifocal export --format gguf`
 *   big_model grow ROWS WIDTH                    64 new rows for a matrix
 * All but the first print a line of JSON: seconds, the bytes of the table, and of this process the anonymous memory it holds at the end and
 * its peak (VmHWM: mapped file pages count), both beyond what it held at its start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "train/compare.h"
#include "train/convert.h"
#include "train/gguf_model.h"
#include "train/hf_folder.h"
#include "train/networks.h"
#include "train/vocabulary.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* "VmHWM", "RssAnon", ... of /proc/self/status in bytes. */
static long long status_of(const char *key)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long long kib = -1;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':') {
            kib = strtoll(line + strlen(key) + 1, NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
}

static long long first_anonymous, first_resident; /* at the start: a build with CUDA maps 100 MB of libraries */

static void report(double start, size_t table)
{
    printf("{\"seconds\": %.2f, \"table\": %zu, \"anonymous\": %lld, \"peak\": %lld, \"sanitized\": %d}\n", now() - start, table,
           status_of("RssAnon") - first_anonymous, status_of("VmHWM") - first_resident, SANITIZED);
}

static bif_model_config shape(bool large)
{
    bif_model_config c = {
        .kind = BIF_MODEL_LLAVA,
        .vit =
            {.hidden = 1024, .layers = 24, .heads = 16, .inner = 4096, .patch = 14, .image = 336, .eps = 1e-5f, .act = BIF_ACT_QUICK_GELU},
        .decoder = {.hidden = 4096,
                    .layers = 32,
                    .heads = 32,
                    .kv_heads = 32,
                    .head_dim = 128,
                    .inner = 11008,
                    .vocab = 32064,
                    .positions = 4096,
                    .eps = 1e-5f,
                    .rope_theta = 1e4f,
                    .bos = 1,
                    .eos = 2,
                    .classes = 32000},
        .projector = {.kind = BIF_PROJECTOR_MLP, .depth = 2, .in = 1024, .out = 4096},
        .feature_layer = -2,
        .image_token = 32000,
        .pad_token = 32001};
    if (!large) {
        c.vit.hidden = c.projector.in = 256;
        c.vit.heads = 4;
        c.vit.inner = 1024;
        c.vit.layers = 4;
        c.decoder.hidden = c.projector.out = 1024;
        c.decoder.heads = c.decoder.kv_heads = 8;
        c.decoder.inner = 2816;
        c.decoder.layers = 4;
        c.decoder.vocab = 8064;
        c.decoder.classes = 8000;
        c.image_token = 8000;
        c.pad_token = 8001;
    }
    return c;
}

/* One file of noise, whose beginning stands for every tensor. */
static bif_status open_noise(const char *folder, int64_t elements, bif_safetensors **out)
{
    bif_status st = BIF_OK;
    char *path = bif_path_join(folder, "noise.safetensors");
    uint16_t *values = bif_malloc((size_t)elements * sizeof *values);
    uint64_t x = 88172645463325252u;
    for (int64_t i = 0; i < elements; i++) { /* sign, 2^-7 to 2^-5, seven bits */
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        values[i] = (uint16_t)((x & 0x8000u) | (0x3c00u + (x >> 20 & 0x1ffu)));
    }
    const bif_st_out noise = {"noise", bif_tensor1(values, BIF_DTYPE_BF16, elements), NULL};
    BIF_TRY(bif_safetensors_write(path, &noise, 1, NULL, NULL, NULL));
    BIF_TRY(bif_safetensors_open(path, out));
    unlink(path);
done:
    free(values);
    free(path);
    return st;
}

static bif_status make(const char *folder, bool large, int64_t shard_bytes)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    bif_status st = BIF_OK;
    const bif_model_config config = shape(large);
    bif_params rows = {0};
    bif_safetensors *noise = NULL;
    bif_st_entry *entries = NULL;
    bif_st_copy *out = NULL;
    int64_t longest = 0;
    bif_model_rows(&config, &rows);
    for (int64_t i = 0; i < rows.count; i++) {
        longest = bif_numel(&rows.items[i].value) > longest ? bif_numel(&rows.items[i].value) : longest;
    }
    BIF_TRY(bif_make_dirs(folder));
    BIF_TRY(open_noise(folder, longest, &noise));
    entries = bif_calloc((size_t)rows.count, sizeof *entries);
    out = bif_calloc((size_t)rows.count, sizeof *out);
    for (int64_t i = 0; i < rows.count; i++) {
        bif_tensor t = rows.items[i].value;
        t.dtype = BIF_DTYPE_BF16;
        entries[i] = *bif_safetensors_at(noise, 0);
        entries[i].bytes = bif_bytes(&t);
        out[i] = (bif_st_copy){.name = rows.items[i].name, .entry = &entries[i], .shape = t};
    }
    BIF_TRY(bif_hf_config_write(folder, &config, BIF_DTYPE_BF16));
    BIF_TRY(bif_safetensors_copy(folder, noise, out, rows.count, metadata, shard_bytes));
done:
    free(entries);
    free(out);
    bif_safetensors_close(noise);
    bif_params_free(&rows);
    return st;
}

static bif_status load(const char *folder, bif_dtype dtype)
{
    bif_status st = BIF_OK;
    bif_device *device = NULL;
    bif_model_config config;
    bif_vlm vlm = {0};
    const double start = now();
    BIF_TRY(bif_device_open("cpu", 1, &device));
    BIF_TRY(bif_hf_config_read(folder, &config));
    bif_vlm_declare(&vlm, &config);
    bif_params_set_dtype(&vlm.params, dtype);
    for (int group = 0; group < BIF_GROUPS; group++) {
        bif_params_train_group(&vlm.params, (bif_group)group, false);
    }
    BIF_TRY(bif_vlm_allocate(&vlm, device, 1));
    BIF_TRY(bif_hf_load(folder, &vlm.params, ~0u));
    report(start, bif_params_bytes(&vlm.params, 1));
done:
    bif_vlm_free(&vlm);
    bif_device_close(device);
    return st;
}

static bif_status export(const char *folder, const char *out, int64_t shard_bytes)
{
    const double start = now();
    const bif_status st =
        bif_convert_folder(folder, out, BIF_FOLDER_HF, &(bif_convert_options){.image_token = -1, .shard_bytes = shard_bytes});
    if (st == BIF_OK) {
        report(start, 0);
    }
    return st;
}

static bif_status gguf(const char *folder, const char *out, const char *tokenizer)
{
    const double start = now();
    const bif_status st = bif_gguf_export(folder, out, &(bif_gguf_options){.type = BIF_GGUF_F16, .tokenizer = tokenizer});
    if (st == BIF_OK) {
        report(start, 0);
    }
    return st;
}

static bif_status grow(int64_t rows, int64_t width)
{
    uint16_t *old = bif_malloc((size_t)(rows * width) * sizeof *old);
    float *new = bif_malloc((size_t)(64 * width) * sizeof *new);
    for (int64_t i = 0; i < rows * width; i++) {
        old[i] = (uint16_t)(0x3c00u + (unsigned)(i * 2654435761u >> 7 & 0x81ffu));
    }
    const bif_st_entry entry = {.name = (char[]){"w"},
                                .dtype = BIF_DTYPE_BF16,
                                .rank = 2,
                                .dim = {rows, width},
                                .data = old,
                                .bytes = (size_t)(rows * width) * sizeof *old};
    const double start = now();
    bif_vocabulary_draw(&entry, 0, "w", 64, new);
    report(start, (size_t)(64 * width) * sizeof *new);
    free(old);
    free(new);
    return BIF_OK;
}

int main(int argc, char **argv)
{
    bif_status st = BIF_ERR_USAGE;
    first_anonymous = status_of("RssAnon");
    first_resident = status_of("VmRSS");
    if (argc == 5 && strcmp(argv[1], "make") == 0) {
        st = make(argv[2], strcmp(argv[3], "7b") == 0, strtoll(argv[4], NULL, 10));
    } else if (argc == 4 && strcmp(argv[1], "load") == 0) {
        st = load(argv[2], strcmp(argv[3], "bf16") == 0 ? BIF_DTYPE_BF16 : BIF_DTYPE_F32);
    } else if (argc == 5 && strcmp(argv[1], "export") == 0) {
        st = export(argv[2], argv[3], strtoll(argv[4], NULL, 10));
    } else if (argc == 5 && strcmp(argv[1], "gguf") == 0) {
        st = gguf(argv[2], argv[3], argv[4]);
    } else if (argc == 4 && strcmp(argv[1], "grow") == 0) {
        st = grow(strtoll(argv[2], NULL, 10), strtoll(argv[3], NULL, 10));
    }
    if (st != BIF_OK) {
        fprintf(stderr, "big_model: %s\n", st == BIF_ERR_USAGE ? "see the head of its source" : bif_error_message());
    }
    return st == BIF_OK ? 0 : 1;
}
