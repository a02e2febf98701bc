/* bifocal data show: one sample of shards as the trainer sees it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/chat.h"
#include "launch/commands.h"
#include "launch/open_shards.h"

static const char help[] =
    "usage: bifocal data show --tokenizer PATH [OPTION]... SHARD...\n\n"
    "Prints one sample: its pictures, then every token with its row, id and mask (+ supervised), the text with the\n"
    "supervised parts in [brackets], and totals. A SHARD is a file (*.h5) or a folder of them.\n\n"
    "  --tokenizer PATH   tokenizer.json, tokenizer.model, vocab.json with merges.txt, or their folder\n"
    "  --index N          which sample, counted from 0 through all shards (0)\n"
    "  --template NAME    plain, vicuna_v1 or chatml (vicuna_v1)\n"
    "  --system TEXT      system text (the template's own; \"\" = none)\n"
    "  --image-tokens P   rows a picture takes (576)\n"
    "  --max-tokens N     refuse a longer sample (0 = any length)\n"
    "  --bos TOKEN        (<s> if the tokenizer has it; \"\" = none)\n"
    "  --eos TOKEN        (</s>, else <|endoftext|>)\n"
    "  --json             one JSON object instead\n";

typedef struct {
    bif_shard_list shards;
    bif_tokenizer *tokenizer;
    bif_chat chat;
    int64_t index;
    bool json;
    bif_shard *shard;
    int64_t local; /* index within that shard */
    bif_shard_sample sample;
    bif_encoded encoded;
} show;

static const char *format_name(bif_image_format format)
{
    static const char *const names[] = {"unknown format", "JPEG", "PNG", "WebP"};
    return (size_t)format < sizeof names / sizeof *names ? names[format] : names[0];
}

/* Text for one line of a terminal: line ends and control characters spelled out, what is not UTF-8 as \xNN. */
static char *printable(const char *text, size_t size, bool keep_newlines)
{
    char *out = bif_malloc(size * 4 + 1);
    size_t used = 0;
    for (size_t i = 0; i < size;) {
        size_t valid = bif_utf8_check(text + i, size - i);
        if (valid == 0 || (uint8_t)text[i] < 32 || text[i] == 127) {
            const char *escape = text[i] == '\n'   ? (keep_newlines ? "\n" : "\\n")
                                 : text[i] == '\t' ? "\\t"
                                 : text[i] == '\r' ? "\\r"
                                                   : NULL;
            used += (size_t)(escape != NULL ? sprintf(out + used, "%s", escape)
                                            : sprintf(out + used, "\\x%02x", (uint8_t)text[i]));
            i++;
            continue;
        }
        uint32_t code = 0;
        size_t step = bif_utf8_decode(text + i, size - i, &code);
        if (code >= 0x80 && code < 0xa0) { /* C1 controls move some terminals */
            used += (size_t)sprintf(out + used, "\\x%02x", code);
        } else {
            memcpy(out + used, text + i, step);
            used += step;
        }
        i += step;
    }
    out[used] = '\0';
    return out;
}

static bool supervised(const show *s, size_t row)
{
    return s->encoded.labels.ids[row] != BIF_LABEL_NONE;
}

/* The end of a run of image rows that starts at `row`; `row` itself when there is none. */
static size_t image_run(const show *s, size_t row)
{
    for (int64_t i = 0; i < s->encoded.images; i++) {
        if (s->encoded.image_start[i] == (int64_t)row) {
            size_t end = row + (size_t)s->chat.image_tokens;
            return end < s->encoded.ids.count ? end : s->encoded.ids.count;
        }
    }
    return row;
}

static bif_status print_pictures(const show *s)
{
    bif_status st = BIF_OK;
    for (int64_t i = 0; i < s->sample.image_count; i++) {
        bif_shard_image image;
        BIF_TRY(bif_shard_get_image(s->shard, (int64_t)s->sample.images[i], &image));
        printf("picture %lld: %u x %u %s, %llu bytes\n", (long long)i, image.width, image.height,
               format_name(image.format), (unsigned long long)image.size);
    }
done:
    return st;
}

static void print_tokens(const show *s, bool colour)
{
    const bif_encoded *e = &s->encoded;
    const char *green = colour ? "\033[32m" : "", *off = colour ? "\033[0m" : "";
    printf("%13s %8s    piece\n", "row", "id");
    for (size_t row = 0; row < e->ids.count;) {
        size_t end = image_run(s, row);
        if (end > row) {
            printf("%6zu-%6zu %8d    <image> x %zu\n", row, end - 1, e->ids.ids[row], end - row);
            row = end;
            continue;
        }
        size_t size = 0;
        const char *bytes = bif_tokenizer_token(s->tokenizer, e->ids.ids[row], &size);
        char *piece = printable(bytes, size, false);
        printf("%s%13zu %8d %c  '%s'%s\n", supervised(s, row) ? green : "", row, e->ids.ids[row],
               supervised(s, row) ? '+' : ' ', piece, supervised(s, row) ? off : "");
        free(piece);
        row++;
    }
}

/* The sequence as text, token by token (decoding a part would take its first space off); a picture is written once. */
static char *text_of(const show *s, bool brackets, size_t *size)
{
    char *text = bif_strdup("");
    size_t used = 0;
    const bif_encoded *e = &s->encoded;
    for (size_t row = 0; row < e->ids.count;) {
        const size_t end = image_run(s, row), next = end > row ? end : row + 1;
        size_t length = 0;
        const char *bytes = bif_tokenizer_token(s->tokenizer, e->ids.ids[row], &length);
        const bool now = supervised(s, row) && brackets;
        text = bif_realloc(text, used + length + 3, 1);
        text[used] = '[';
        used += now && (row == 0 || !supervised(s, row - 1));
        memcpy(text + used, bytes, length);
        used += length;
        text[used] = ']';
        used += now && (next >= e->ids.count || !supervised(s, next));
        text[used] = '\0';
        row = next;
    }
    *size = used;
    return text;
}

static bif_status print_text(const show *s)
{
    bif_status st = BIF_OK;
    char *text = NULL, *line = NULL;
    size_t size = 0;
    BIF_TRY(print_pictures(s));
    print_tokens(s, isatty(STDOUT_FILENO) && (getenv("NO_COLOR") == NULL || *getenv("NO_COLOR") == '\0'));
    text = text_of(s, true, &size);
    line = printable(text, size, true);
    printf("text:\n%s\n", line);
    printf("tokens %zu, supervised %lld, pictures %lld\n", s->encoded.ids.count, (long long)s->encoded.supervised,
           (long long)s->encoded.images);
done:
    free(text);
    free(line);
    return st;
}

static bif_status print_json(const show *s)
{
    bif_status st = BIF_OK;
    const bif_encoded *e = &s->encoded;
    char *text = NULL, *line = NULL, *dump = NULL;
    size_t size = 0;
    json_t *ids = json_array(), *labels = json_array(), *starts = json_array(), *pictures = json_array(), *root = NULL;
    for (size_t i = 0; i < e->ids.count; i++) {
        json_array_append_new(ids, json_integer(e->ids.ids[i]));
        json_array_append_new(labels, json_integer(e->labels.ids[i]));
    }
    for (int64_t i = 0; i < e->images; i++) {
        json_array_append_new(starts, json_integer(e->image_start[i]));
    }
    for (int64_t i = 0; i < s->sample.image_count; i++) {
        bif_shard_image image;
        BIF_TRY(bif_shard_get_image(s->shard, (int64_t)s->sample.images[i], &image));
        json_array_append_new(pictures, json_pack("{s:I, s:I, s:s, s:I}", "width", (json_int_t)image.width, "height",
                                                  (json_int_t)image.height, "format", format_name(image.format),
                                                  "bytes", (json_int_t)image.size));
    }
    text = text_of(s, false, &size);
    if (bif_utf8_check(text, size) < size) { /* a character cut by the length limit */
        line = printable(text, size, true);
    }
    root = json_pack("{s:s, s:I, s:s%, s:s, s:O, s:O, s:O, s:O, s:s, s:I, s:I}", "shard", bif_shard_path(s->shard),
                     "sample", (json_int_t)s->local, "id", s->sample.id, s->sample.id_size, "template",
                     bif_template_name(s->chat.kind), "pictures", pictures, "ids", ids, "labels", labels, "image_start",
                     starts, "text", line != NULL ? line : text, "tokens", (json_int_t)e->ids.count, "supervised",
                     (json_int_t)e->supervised);
    dump = root == NULL ? NULL : json_dumps(root, JSON_COMPACT);
    if (dump == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: sample %lld can not be written as JSON", bif_shard_path(s->shard),
                         (long long)s->local));
    }
    puts(dump);
done:
    free(text);
    free(line);
    free(dump);
    json_decref(ids);
    json_decref(labels);
    json_decref(starts);
    json_decref(pictures);
    json_decref(root);
    return st;
}

static bif_status number(const char *option, int64_t least, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(optarg, &end, 10);
    if (errno != 0 || end == optarg || *end != '\0' || value < least) {
        return bif_fail(BIF_ERR_USAGE, "data show: --%s '%s' is not a number of at least %lld", option, optarg,
                        (long long)least);
    }
    *out = value;
    return BIF_OK;
}

/* The id of a token named on the command line, or of the first default that exists. */
static bif_status token(const show *s, const char *option, const char *given, const char *first, const char *second,
                        int32_t *out)
{
    *out = bif_tokenizer_special(s->tokenizer, given != NULL ? given : first);
    if (given == NULL && *out < 0 && second != NULL) {
        *out = bif_tokenizer_special(s->tokenizer, second);
    }
    if (given != NULL && *given != '\0' && *out < 0) {
        return bif_fail(BIF_ERR_USAGE, "data show: --%s '%s' is not a special token of the tokenizer", option, given);
    }
    return BIF_OK;
}

static bif_status run(show *s, const char *tokenizer, const char *bos, const char *eos)
{
    bif_status st = BIF_OK;
    char *where = NULL;
    BIF_TRY(bif_shard_list_sample(&s->shards, s->index, &s->shard, &s->local, &s->sample));
    where = bif_format("%s:%lld", bif_shard_path(s->shard), (long long)s->local);
    BIF_TRY(bif_tokenizer_load(tokenizer, &s->tokenizer));
    s->chat.tokenizer = s->tokenizer;
    s->chat.image = bif_tokenizer_special(s->tokenizer, "<image>");
    BIF_TRY(token(s, "bos", bos, "<s>", NULL, &s->chat.bos));
    BIF_TRY(token(s, "eos", eos, "</s>", "<|endoftext|>", &s->chat.eos));
    BIF_TRY(bif_chat_encode(&s->chat, where, s->sample.text, s->sample.text_size, s->sample.image_count, &s->encoded));
    if (s->json) {
        BIF_TRY(print_json(s));
        goto done;
    }
    char *id = printable(s->sample.id, s->sample.id_size, false),
         *source = printable(s->sample.source, strlen(s->sample.source), false);
    printf("%s, sample %lld of %lld, id '%s', source '%s', template %s\n", bif_shard_path(s->shard),
           (long long)s->local, (long long)bif_shard_samples(s->shard), id, source, bif_template_name(s->chat.kind));
    free(id);
    free(source);
    BIF_TRY(print_text(s));
done:
    free(where);
    return st;
}

bif_status bif_cmd_data_show(int argc, char **argv)
{
    static const struct option options[] = {{"tokenizer", required_argument, NULL, 't'},
                                            {"index", required_argument, NULL, 'i'},
                                            {"template", required_argument, NULL, 'k'},
                                            {"system", required_argument, NULL, 's'},
                                            {"image-tokens", required_argument, NULL, 'p'},
                                            {"max-tokens", required_argument, NULL, 'm'},
                                            {"bos", required_argument, NULL, 'b'},
                                            {"eos", required_argument, NULL, 'e'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    show s = {.chat = {.kind = BIF_TEMPLATE_VICUNA_V1, .image_tokens = 576}};
    const char *tokenizer = NULL, *bos = NULL, *eos = NULL;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 't':
            tokenizer = optarg;
            break;
        case 'i':
            BIF_TRY(number("index", 0, &s.index));
            break;
        case 'k':
            BIF_TRY(bif_template_by_name(optarg, &s.chat.kind));
            break;
        case 's':
            s.chat.system = optarg;
            break;
        case 'p':
            BIF_TRY(number("image-tokens", 1, &s.chat.image_tokens));
            break;
        case 'm':
            BIF_TRY(number("max-tokens", 0, &s.chat.max_tokens));
            break;
        case 'b':
            bos = optarg;
            break;
        case 'e':
            eos = optarg;
            break;
        case 'j':
            s.json = true;
            break;
        case 'h':
            fputs(help, stdout);
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data show: wrong option; see bifocal data show --help"));
        }
    }
    if (tokenizer == NULL || optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data show: --tokenizer and a shard are needed; see bifocal data show --help"));
    }
    for (int i = optind; i < argc; i++) {
        BIF_TRY(bif_shard_list_add(&s.shards, argv[i]));
    }
    BIF_TRY(run(&s, tokenizer, bos, eos));
done:
    bif_encoded_free(&s.encoded);
    bif_tokenizer_free(s.tokenizer);
    bif_shard_list_close(&s.shards);
    return st;
}
