/* bifocal tokenize: lines of text to ids, and back. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer.h"
#include "launch/commands.h"

static const char help[] =
    "usage: bifocal tokenize --tokenizer PATH [OPTION]... [FILE]...\n\n"
    "Reads lines (of the files, else of standard input) and prints a JSON array of token ids for each.\n\n"
    "  --tokenizer PATH   tokenizer.json, tokenizer.model (SentencePiece) or vocab.json with merges.txt, or their folder\n"
    "  --pieces           print the tokens as the tokenizer's file writes them instead of their ids\n"
    "  --decode           the lines are arrays of ids: print their text as a JSON string\n"
    "  --no-special       the text of special tokens is plain text, as in training data; with --decode: leave them out\n\n"
    "A line ends before \"\\n\"; no BOS or EOS is added. Bytes that are not UTF-8 are kept by byte-level tokenizers that normalize\n"
    "nothing (or to NFC); all others read each as U+FFFD. In what --decode prints each such byte is U+FFFD.\n";

typedef struct {
    const char *tokenizer_path;
    bif_tokenizer *tokenizer;
    bool pieces, decode, plain;
} options;

static void print_string(const char *text, size_t size)
{
    char *valid = bif_malloc(size * 3 + 1);
    size_t used = 0;
    for (size_t at = 0; at < size;) {
        const size_t run = bif_utf8_check(text + at, size - at);
        memcpy(valid + used, text + at, run);
        used += run;
        at += run;
        if (at < size) {
            memcpy(valid + used, "\xef\xbf\xbd", 3);
            used += 3;
            at++;
        }
    }
    json_t *string = json_stringn(valid, used);
    BIF_BUG_IF(string == NULL, "a text that was made valid is not UTF-8");
    json_dumpf(string, stdout, JSON_ENCODE_ANY);
    json_decref(string);
    free(valid);
}

static bif_status decode_line(const options *o, const char *where, const char *line, size_t size)
{
    bif_status st = BIF_OK;
    json_t *list = NULL;
    bif_ids ids = {0};
    char *text = NULL;
    size_t length = 0;
    BIF_TRY(bif_json_parse(where, line, size, &list));
    if (!json_is_array(list)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: not an array of ids", where));
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= bif_tokenizer_vocab(o->tokenizer)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: entry %zu is not an id from 0 to %lld", where, i,
                             (long long)bif_tokenizer_vocab(o->tokenizer) - 1));
        }
        bif_ids_push(&ids, (int32_t)json_integer_value(id));
    }
    BIF_TRY(bif_tokenizer_decode(o->tokenizer, ids.ids, ids.count, o->plain, &text, &length));
    print_string(text, length);
done:
    json_decref(list);
    bif_ids_free(&ids);
    free(text);
    return st;
}

static bif_status encode_line(const options *o, const char *line, size_t size, bif_ids *ids)
{
    ids->count = 0;
    bif_status st = bif_tokenizer_encode(o->tokenizer, line, size, !o->plain, ids);
    if (st != BIF_OK) {
        return st;
    }
    putchar('[');
    for (size_t i = 0; i < ids->count; i++) {
        fputs(i > 0 ? "," : "", stdout);
        if (o->pieces) {
            char *piece = bif_tokenizer_piece(o->tokenizer, ids->ids[i]);
            print_string(piece, strlen(piece));
            free(piece);
        } else {
            printf("%d", ids->ids[i]);
        }
    }
    putchar(']');
    return BIF_OK;
}

static bif_status run_stream(const options *o, FILE *in, const char *name)
{
    bif_status st = BIF_OK;
    bif_ids ids = {0};
    char *line = NULL;
    size_t capacity = 0;
    errno = 0;
    for (long long number = 1;; number++) {
        ssize_t size = getline(&line, &capacity, in);
        if (size < 0) {
            break;
        }
        size -= line[size - 1] == '\n';
        char *where = bif_format("%s:%lld", name, number);
        st = o->decode ? decode_line(o, where, line, (size_t)size) : encode_line(o, line, (size_t)size, &ids);
        if (st != BIF_OK && !o->decode) {
            st = bif_fail_context(st, "%s", where);
        }
        free(where);
        if (st != BIF_OK) {
            goto done;
        }
        putchar('\n');
    }
    if (ferror(in) || !feof(in)) {
        BIF_TRY(bif_fail_errno(errno, "reading %s", name));
    }
    if (fflush(stdout) != 0) {
        BIF_TRY(bif_fail_errno(errno, "writing to standard output"));
    }
done:
    bif_ids_free(&ids);
    free(line);
    return st;
}

bif_status bif_cmd_tokenize(int argc, char **argv)
{
    static const struct option table[] = {{"tokenizer", required_argument, NULL, 't'},
                                          {"pieces", no_argument, NULL, 'p'},
                                          {"decode", no_argument, NULL, 'd'},
                                          {"no-special", no_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    bif_status st = BIF_OK;
    options o = {0};
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        switch (c) {
        case 't':
            o.tokenizer_path = optarg;
            break;
        case 'p':
            o.pieces = true;
            break;
        case 'd':
            o.decode = true;
            break;
        case 'n':
            o.plain = true;
            break;
        case 'h':
            fputs(help, stdout);
            return BIF_OK;
        default:
            return bif_fail(BIF_ERR_USAGE, "tokenize: wrong option; see bifocal tokenize --help");
        }
    }
    if (o.tokenizer_path == NULL || (o.pieces && o.decode)) {
        return bif_fail(BIF_ERR_USAGE,
                        "tokenize: --tokenizer is needed, and --pieces does not go with --decode; see bifocal tokenize --help");
    }
    BIF_TRY(bif_tokenizer_load(o.tokenizer_path, &o.tokenizer));
    if (optind == argc) {
        BIF_TRY(run_stream(&o, stdin, "standard input"));
    }
    for (int i = optind; i < argc; i++) {
        FILE *in = fopen(argv[i], "rb");
        if (in == NULL) {
            BIF_TRY(bif_fail_errno(errno, "opening %s", argv[i]));
        }
        st = run_stream(&o, in, argv[i]);
        fclose(in);
        if (st != BIF_OK) {
            goto done;
        }
    }
done:
    bif_tokenizer_free(o.tokenizer);
    return st;
}
