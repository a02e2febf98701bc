/* bifocal import | export: folders of weights from one layout into another. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "launch/commands.h"
#include "launch/open_folder.h"
#include "train/convert.h"
#include "train/gguf_model.h"

#define SHARD_HELP(gap) "  --shard-size SIZE" gap "largest file of weights: bytes, or 500MB, 5GB, 2GiB (5GB)\n"

static const char import_help[] =
    "usage: bifocal import [OPTION]... SOURCE OUT\n\n"
    "Makes a folder that recipes and transformers open, of a LLaVA in its authors' layout (whose vision tower is elsewhere) or of any\n"
    "other layout that bifocal reads. Tensors are copied to the bit; a LoRA adapter is merged into its base. OUT must not exist.\n\n"
    "  --base FOLDER        the base of an adapter (the folder that its adapter_config.json names)\n"
    "  --tower FOLDER       the vision tower, where SOURCE only names it (or to replace it): a CLIP folder\n"
    "  --projector PATH     the projector of another folder or file\n"
    "  --tokenizer PATH     a tokenizer's file or its folder (SOURCE's)\n"
    "  --image-token ID     the token that stands for a picture (as SOURCE says, else <image> of the tokenizer, which gets it when it\n"
    "                       has none: embedding and head grow, as in transformers' conversion)\n" SHARD_HELP("    ");

static const char export_help[] =
    "usage: bifocal export --format NAME [OPTION]... FOLDER OUT\n\n"
    "Writes a folder of weights for others. FOLDER is a Hugging Face folder, a checkpoint or a run's folder; a LoRA\n"
    "adapter (PEFT's, LLaVA's or a run's) is merged into its base. OUT must not exist.\n\n"
    "  --format NAME   hf-old: language_model.model.*, as bifocal writes; every transformers and most other programs read it\n"
    "                  hf: model.language_model.*, the names of transformers 4.52 and newer\n"
    "                  llava: the layout of LLaVA's authors, the tower in OUT/vision_tower. LLaVA's own program looks for mm_vision_tower\n"
    "                  (config.json) below the current folder: start it in OUT, or write the full path there\n"
    "                  gguf: for llama.cpp, a language model or a LLaVA: OUT/OUT-F16.gguf and, of a LLaVA, OUT/mmproj-OUT-F16.gguf.\n"
    "                  llama-mtmd-cli takes the first as its model, the second as its mmproj; as in training its prompt is <__media__>, a\n"
    "                  newline and the question\n"
    "                  gguf converts tensors, the others copy them to the bit\n"
    "  --base FOLDER   the base of an adapter (the folder that its adapter_config.json names)\n"
    "  --tower FOLDER  the vision tower, where FOLDER only names it (or to replace it)\n" SHARD_HELP("  ")
    "  --best          of a run's folder the checkpoint that its best.json names, not the newest\n"
    "Of gguf only:\n"
    "  --type NAME       f16, bf16 or f32: of the matrices (f16)\n"
    "  --tokenizer PATH  a tokenizer's file or its folder (FOLDER's)\n"
    "  --pre NAME        llama.cpp's pre-tokenizer for a byte-level tokenizer (found by its pattern: gpt-2, smollm, llama-bpe,\n"
    "                    smaug-bpe, qwen2)\n";

/* "5GB" as transformers reads it: powers of ten, with an i of two. */
static bif_status shard_size(const char *verb, const char *text, int64_t *out)
{
    static const struct {
        const char *unit;
        int64_t bytes;
    } units[] = {{"", 1}, {"KB", 1000}, {"MB", 1000000}, {"GB", 1000000000}, {"TB", 1000000000000},
                 {"KiB", (int64_t)1 << 10}, {"MiB", (int64_t)1 << 20}, {"GiB", (int64_t)1 << 30}, {"TiB", (int64_t)1 << 40}};
    char *end = NULL;
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    for (size_t i = 0; errno == 0 && end != text && number > 0 && i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(end, units[i].unit) == 0 && bif_mul_i64(number, units[i].bytes, out)) {
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_USAGE, "%s: --shard-size '%s' is not a size like 5GB", verb, text);
}

/* Slashes at the end of a new folder's name would put what is written for the time being into it. */
static char *new_folder(char *path)
{
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) {
        path[n - 1] = '\0';
    }
    return path;
}

static bif_status convert(const char *verb, char **paths, int count, bool best, bif_folder_layout layout,
                          const bif_convert_options *options)
{
    bif_status st = BIF_OK;
    char *source = NULL;
    if (count != 2) {
        return bif_fail(BIF_ERR_USAGE, "%s: name a source and a new folder; see bifocal %s --help", verb, verb);
    }
    BIF_TRY(bif_folder_resolve(paths[0], best, &source));
    BIF_TRY(bif_convert_folder(source, new_folder(paths[1]), layout, options));
    bif_info("%s: written from %s", paths[1], source);
done:
    free(source);
    return st;
}

bif_status bif_cmd_import(int argc, char **argv)
{
    static const struct option options[] = {{"base", required_argument, NULL, 'b'},
                                            {"tower", required_argument, NULL, 't'},
                                            {"projector", required_argument, NULL, 'p'},
                                            {"tokenizer", required_argument, NULL, 'k'},
                                            {"image-token", required_argument, NULL, 'i'},
                                            {"shard-size", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_convert_options o = {.image_token = -1};
    char *end = NULL;
    bif_status st = BIF_OK;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 's': BIF_TRY(shard_size("import", optarg, &o.shard_bytes)); break;
        case 'b': o.base = optarg; break;
        case 't': o.tower = optarg; break;
        case 'p': o.projector = optarg; break;
        case 'k': o.tokenizer = optarg; break;
        case 'i':
            errno = 0;
            o.image_token = strtoll(optarg, &end, 10);
            if (errno != 0 || end == optarg || *end != '\0' || o.image_token < 0 || o.image_token > INT32_MAX) {
                return bif_fail(BIF_ERR_USAGE, "import: --image-token '%s' is not a token's id", optarg);
            }
            break;
        case 'h': fputs(import_help, stdout); return BIF_OK;
        default: return bif_fail(BIF_ERR_USAGE, "import: wrong option; see bifocal import --help");
        }
    }
    st = convert("import", argv + optind, argc - optind, false, BIF_FOLDER_HF_OLD, &o);
done:
    return st;
}

static bif_status export_gguf(char **paths, int count, bool best, const bif_gguf_options *options)
{
    bif_status st = BIF_OK;
    char *source = NULL;
    if (count != 2) {
        return bif_fail(BIF_ERR_USAGE, "export: name a source and a new folder; see bifocal export --help");
    }
    BIF_TRY(bif_folder_resolve(paths[0], best, &source));
    BIF_TRY(bif_gguf_export(source, new_folder(paths[1]), options));
    bif_info("%s: written from %s", paths[1], source);
done:
    free(source);
    return st;
}

bif_status bif_cmd_export(int argc, char **argv)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"base", required_argument, NULL, 'b'},
                                            {"tower", required_argument, NULL, 't'},
                                            {"shard-size", required_argument, NULL, 's'},
                                            {"type", required_argument, NULL, 'y'},
                                            {"best", no_argument, NULL, 'B'},
                                            {"tokenizer", required_argument, NULL, 'k'},
                                            {"pre", required_argument, NULL, 'p'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    static const char *const names[] = {"hf-old", "hf", "llava", "gguf"}; /* in the order of bif_folder_layout, and one more */
    static const char *const types[] = {"f16", "bf16", "f32"};
    static const bif_gguf_type numbers[] = {BIF_GGUF_F16, BIF_GGUF_BF16, BIF_GGUF_F32};
    bif_convert_options o = {.image_token = -1};
    bif_status st = BIF_OK;
    bif_gguf_options gguf = {.type = BIF_GGUF_F16};
    int layout = -1, type = -1;
    bool best = false;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 'f':
            layout = -1;
            for (int i = 0; i < 4; i++) {
                layout = strcmp(optarg, names[i]) == 0 ? i : layout;
            }
            break;
        case 's': BIF_TRY(shard_size("export", optarg, &o.shard_bytes)); break;
        case 'y':
            for (type = 2; type >= 0 && strcmp(optarg, types[type]) != 0;) {
                type--;
            }
            if (type < 0) {
                return bif_fail(BIF_ERR_USAGE, "export: --type must be f16, bf16 or f32, not '%s'", optarg);
            }
            gguf.type = numbers[type];
            break;
        case 'b': o.base = optarg; break;
        case 't': o.tower = optarg; break;
        case 'k': gguf.tokenizer = optarg; break;
        case 'p': gguf.pre = optarg; break;
        case 'B': best = true; break;
        case 'h': fputs(export_help, stdout); return BIF_OK;
        default: return bif_fail(BIF_ERR_USAGE, "export: wrong option; see bifocal export --help");
        }
    }
    if (layout < 0) {
        return bif_fail(BIF_ERR_USAGE, "export: --format must be hf, hf-old, llava or gguf; see bifocal export --help");
    }
    if (layout == 3 && o.shard_bytes > 0) {
        return bif_fail(BIF_ERR_USAGE, "export: --format gguf writes one file a model; --shard-size is not for it");
    }
    if (layout == 3) {
        gguf.beside = (bif_beside){.tower = o.tower, .base = o.base};
        return export_gguf(argv + optind, argc - optind, best, &gguf);
    }
    if (type >= 0 || gguf.tokenizer != NULL || gguf.pre != NULL) {
        return bif_fail(BIF_ERR_USAGE, "export: --type, --tokenizer and --pre belong to --format gguf");
    }
    st = convert("export", argv + optind, argc - optind, best, (bif_folder_layout)layout, &o);
done:
    return st;
}
