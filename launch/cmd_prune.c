/* bifocal data prune */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/prune.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char help[] =
    "usage: bifocal data prune [--from IN.sel] --out OUT.sel RULES SHARD...\n"
    "       bifocal data prune [--from IN.sel] --measure [--json] SHARD...\n\n"
    "Drops samples by rules about their pictures, captions and scores; OUT.sel names them with the reason. A SHARD is a file (*.h5) or\n"
    "a folder. Rules hit in this order, a sample is dropped by the first: as listed here, with all top shares last (of what is then\n"
    "still in). Of a sample with several pictures every picture must pass. Samples without pictures pass all rules about pictures; one\n"
    "without a caption has an empty caption. The result is the same for any number of ranks and any order of the shards.\n\n"
    "  --from IN.sel            begin with what this selection keeps (default: everything)\n"
    "  --out OUT.sel            the selection with this step added\n"
    "  --measure                instead of rules: quantiles of all that can be measured, and scripts\n"
    "  --preset NAME            datacomp-basic: --words-min 3 --chars-min 6 --image-side-min 200 --aspect-max 3 (without its fastText\n"
    "                           model for English, which is not bundled: --script Latn keeps more). Options behind it win\n"
    "pictures (columns by bifocal data hash where they are named):\n"
    "  --undecodable            drop pictures that cannot be decoded (column pixels)\n"
    "  --image-side-min N       shorter side in pixels\n"
    "  --aspect-max X           longer side / shorter side\n"
    "  --deviation-min X        standard deviation of grey, 0 to 255: below it a picture is blank (column mean_std)\n"
    "  --quality-min N          PDQ's quality, 0 to 100; below 50 there are hardly any features (column pdq_quality)\n"
    "  --bytes-per-pixel-min X  of the encoded file\n"
    "captions (a caption, or the first answer of a conversation):\n"
    "  --chars-min N, --chars-max N  code points\n"
    "  --words-min N, --words-max N  between white space\n"
    "  --alphabetic-min X       share of letters and marks in what is no white space\n"
    "  --repetition-max X       share of runs of words that stood in the caption before\n"
    "  --repetition-words N     words of such a run (2)\n"
    "  --script LIST            ISO 15924 codes such as Latn,Hang (Jpan, Kore, Hans and Hant are taken as their scripts); a caption\n"
    "                           stays when enough of its letters are of these; without letters it does not\n"
    "  --script-min X           what is enough, as a share (0.5)\n"
    "  --file-names             drop captions that are a file's name, a URL or a number\n"
    "  --caption-column NAME    captions from the text column NAME, or caption-NAME; where it has none, the shard's own\n"
    "scores:\n"
    "  --clip NAME              columns NAME.image and NAME.text of bifocal data embed (clip)\n"
    "  --clip-score-min X       cosine of picture and caption\n"
    "  --column NAME            a column of one number a row; --min, --max and --top behind it are about it (repeatable); rows without a\n"
    "                           number are dropped\n"
    "  --min X                  keep from X on\n"
    "  --max X                  keep up to X\n"
    "then:\n"
    "  --max-same-caption N     of samples with one caption (case, white space and punctuation around it aside) keep N, those with the\n"
    "                           least uids\n"
    "top shares, DataComp's rule (scores >= the one at rank int(N X) of the falling ones):\n"
    "  --clip-top X             share kept by CLIP score\n"
    "  --top X                  share kept by the column named before\n"
    "and:\n"
    "  --memory-mib N           memory of a rank (2048); more samples are refused with what they need\n"
    "  --json                   the table as JSON\n"
    "  --quiet                  only warnings\n";

typedef struct {
    const char *from, *out;
    bif_prune_options o;
    bif_prune_column *column; /* [argc] */
    const char *const *shards;
    size_t shard_count;
    bool json;
} arguments;

static bif_status real(const char *name, const char *text, double low, double high, double *out)
{
    const bif_status st = bif_option_real(name, text, out);
    return st != BIF_OK || (*out >= low && *out <= high)
               ? st
               : bif_fail(BIF_ERR_USAGE, "data prune: --%s must be from %g to %g, not %s", name, low, high, text);
}

static void use(bif_prune_options *o, const char *name, double limit)
{
    const int k = bif_prune_kind_by_name(name);
    BIF_BUG_IF(k < 0, "no rule %s", name);
    o->use[k] = true;
    o->limit[k] = limit;
}

static bif_status preset(const char *name, bif_prune_options *o)
{
    if (strcmp(name, "datacomp-basic") != 0) {
        return bif_fail(BIF_ERR_USAGE, "data prune: --preset '%s' is unknown; there is datacomp-basic", name);
    }
    use(o, "words-min", 3);
    use(o, "chars-min", 6);
    use(o, "image-side-min", 200);
    use(o, "aspect-max", 3);
    return BIF_OK;
}

static bif_status of_column(arguments *a, const char *name, const char *text, bool *has, double *value)
{
    if (a->o.columns == 0) {
        return bif_fail(BIF_ERR_USAGE, "data prune: --%s is about a column; put --column NAME before it", name);
    }
    *has = true;
    return real(name, text, strcmp(name, "top") == 0 ? 0.0 : -1e30, strcmp(name, "top") == 0 ? 1.0 : 1e30, value);
}

static bif_status check(arguments *a)
{
    int64_t rules = a->o.max_same_caption > 0;
    bif_status st = BIF_OK;
    bool script[BIF_SCRIPT_COUNT] = {false};
    if (a->o.scripts != NULL) {
        BIF_TRY(bif_script_set(a->o.scripts, script));
        const int k = bif_prune_kind_by_name("script-min");
        a->o.limit[k] = a->o.use[k] ? a->o.limit[k] : 0.5;
        a->o.use[k] = a->o.use[k] || !a->o.measure; /* the share alone is measured too */
    } else if (a->o.use[bif_prune_kind_by_name("script-min")]) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data prune: --script-min without --script"));
    }
    for (int k = 0; k < BIF_PRUNE_KINDS; k++) {
        rules += a->o.use[k];
    }
    for (int64_t i = 0; i < a->o.columns; i++) {
        const bif_prune_column *c = &a->column[i];
        rules += c->has_min + c->has_max + c->has_top;
        if (!a->o.measure && !c->has_min && !c->has_max && !c->has_top) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data prune: --column %s has neither --min nor --max nor --top behind it", c->name));
        }
        for (int64_t k = 0; k < i; k++) {
            if (strcmp(a->column[k].name, c->name) == 0) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "data prune: --column %s stands twice", c->name));
            }
        }
    }
    if (a->o.measure ? a->out != NULL || rules > 0 : a->out == NULL || rules == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data prune: give --out and at least one rule, or --measure alone; see bifocal data prune --help"));
    }
    if (a->shard_count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data prune: name at least one shard; see bifocal data prune --help"));
    }
    BIF_TRY(bif_option_writable("out", a->out));
done:
    return st;
}

/* ---- output ---- */

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *scripts_json(const bif_prune_result *r)
{
    json_t *scripts = json_object();
    for (int i = 0; i < bif_scripts; i++) {
        if (r->script[i] > 0) {
            json_object_set_new(scripts, bif_script_codes[i], json_integer(r->script[i]));
        }
    }
    json_object_set_new(scripts, "none", json_integer(r->no_script));
    return scripts;
}

static void print_json(const bif_prune_result *r, bool measured)
{
    json_t *root = json_pack("{s:I}", "before", (json_int_t)r->before), *list = json_array();
    for (int64_t i = 0; i < r->rows; i++) {
        const bif_prune_row *row = &r->row[i];
        json_array_append_new(list, json_pack("{s:s,s:o,s:I,s:I}", "rule", row->reason, "limit", number_or_null(row->limit), "alone",
                                              (json_int_t)row->alone, "dropped", (json_int_t)row->dropped));
    }
    for (int64_t i = 0; i < r->spreads; i++) {
        const bif_prune_spread *s = &r->spread[i];
        json_t *values = json_array();
        for (int q = 0; s->samples > 0 && q < BIF_PRUNE_QUANTILES; q++) {
            json_array_append_new(values, number_or_null((double)s->quantile[q]));
        }
        json_array_append_new(list, json_pack("{s:s,s:I,s:o}", "measure", s->name, "samples", (json_int_t)s->samples, "values", values));
    }
    if (measured) {
        json_t *shares = json_array();
        for (int q = 0; q < BIF_PRUNE_QUANTILES; q++) {
            json_array_append_new(shares, json_real(bif_prune_quantiles[q]));
        }
        json_object_set_new(root, "quantiles", shares);
        json_object_set_new(root, "measures", list);
        json_object_set_new(root, "scripts", scripts_json(r));
    } else {
        json_object_set_new(root, "rules", list);
        json_object_set_new(root, "after", json_integer(r->after));
    }
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

static void print_rules(const bif_prune_result *r)
{
    printf("%-34s %12s %12s %12s\n", "rule", "limit", "alone", "dropped");
    printf("%-34s %12s %12s %12lld\n", "before", "", "", (long long)r->before);
    for (int64_t i = 0; i < r->rows; i++) {
        printf("%-34s %12.6g %12lld %12lld\n", r->row[i].reason, r->row[i].limit, (long long)r->row[i].alone, (long long)r->row[i].dropped);
    }
    printf("%-34s %12s %12s %12lld\n", "after", "", "", (long long)r->after);
}

static void print_spreads(const bif_prune_result *r)
{
    printf("%-18s %10s", "quantile", "samples");
    for (int q = 0; q < BIF_PRUNE_QUANTILES; q++) {
        printf(" %9.4g", bif_prune_quantiles[q]);
    }
    putchar('\n');
    for (int64_t i = 0; i < r->spreads; i++) {
        const bif_prune_spread *s = &r->spread[i];
        printf("%-18s %10lld", s->name, (long long)s->samples);
        for (int q = 0; s->samples > 0 && q < BIF_PRUNE_QUANTILES; q++) {
            printf(" %9.4g", (double)s->quantile[q]);
        }
        putchar('\n');
    }
    puts("captions by the script of most letters");
    for (int i = 0; i < bif_scripts; i++) {
        if (r->script[i] > 0) {
            printf("  %-16s %10lld\n", bif_script_codes[i], (long long)r->script[i]);
        }
    }
    printf("  %-16s %10lld\n", "none", (long long)r->no_script);
}

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    (void)comm;
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_pool pool = {0};
    bif_selection *selection = NULL;
    bif_prune_result result = {0};
    st = bif_pool_open(a->shards, a->shard_count, &pool);
    if (st == BIF_OK && a->from != NULL) {
        st = bif_selection_read(a->from, &selection);
        st = st == BIF_OK ? bif_selection_check(selection, a->from, &pool) : st;
    } else if (st == BIF_OK) {
        selection = bif_selection_new(&pool);
    }
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(bif_prune(&pool, selection, &a->o, team, &result));
    if (team->rank == 0) {
        st = a->out != NULL ? bif_selection_write(selection, a->out) : BIF_OK;
        if (st == BIF_OK && a->json) {
            print_json(&result, a->o.measure);
        } else if (st == BIF_OK) {
            (a->o.measure ? print_spreads : print_rules)(&result);
        }
    }
    st = team->agree(team->context, st);
done:
    bif_prune_result_free(&result);
    bif_selection_free(selection);
    st = bif_pool_verdict(&pool, st);
    bif_pool_close(&pool);
    return st;
}

bif_status bif_cmd_data_prune(int argc, char **argv)
{
    enum { FROM = 1, OUT, MEASURE, PRESET, REPETITION_WORDS, SCRIPT, CAPTION_COLUMN, CLIP, COLUMN, MIN, MAX, TOP, SAME, MEMORY, JSON,
           QUIET, HELP, RULE, FLAG_RULE };
    static const struct option options[] = {{"from", required_argument, NULL, FROM},
                                            {"out", required_argument, NULL, OUT},
                                            {"measure", no_argument, NULL, MEASURE},
                                            {"preset", required_argument, NULL, PRESET},
                                            {"undecodable", no_argument, NULL, FLAG_RULE},
                                            {"image-side-min", required_argument, NULL, RULE},
                                            {"aspect-max", required_argument, NULL, RULE},
                                            {"deviation-min", required_argument, NULL, RULE},
                                            {"quality-min", required_argument, NULL, RULE},
                                            {"bytes-per-pixel-min", required_argument, NULL, RULE},
                                            {"chars-min", required_argument, NULL, RULE},
                                            {"chars-max", required_argument, NULL, RULE},
                                            {"words-min", required_argument, NULL, RULE},
                                            {"words-max", required_argument, NULL, RULE},
                                            {"alphabetic-min", required_argument, NULL, RULE},
                                            {"repetition-max", required_argument, NULL, RULE},
                                            {"repetition-words", required_argument, NULL, REPETITION_WORDS},
                                            {"script", required_argument, NULL, SCRIPT},
                                            {"script-min", required_argument, NULL, RULE},
                                            {"file-names", no_argument, NULL, FLAG_RULE},
                                            {"caption-column", required_argument, NULL, CAPTION_COLUMN},
                                            {"clip", required_argument, NULL, CLIP},
                                            {"clip-score-min", required_argument, NULL, RULE},
                                            {"column", required_argument, NULL, COLUMN},
                                            {"min", required_argument, NULL, MIN},
                                            {"max", required_argument, NULL, MAX},
                                            {"max-same-caption", required_argument, NULL, SAME},
                                            {"clip-top", required_argument, NULL, RULE},
                                            {"top", required_argument, NULL, TOP},
                                            {"memory-mib", required_argument, NULL, MEMORY},
                                            {"json", no_argument, NULL, JSON},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    arguments a = {.o = {.clip = "clip", .repetition_words = 2, .memory = (int64_t)2048 << 20}};
    a.column = bif_calloc((size_t)argc + 1, sizeof *a.column);
    a.o.column = a.column;
    int which = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, &which)) != -1;) {
        const char *name = c != '?' ? options[which].name : "";
        bif_prune_column *last = a.o.columns > 0 ? &a.column[a.o.columns - 1] : a.column;
        switch (c) {
        case FROM: a.from = optarg; break;
        case OUT: a.out = optarg; break;
        case MEASURE: a.o.measure = true; break;
        case PRESET: BIF_TRY(preset(optarg, &a.o)); break;
        case FLAG_RULE: use(&a.o, name, 0); break;
        case RULE: {
            const bif_prune_kind *kind = &bif_prune_kinds[bif_prune_kind_by_name(name)];
            double limit = 0.0;
            BIF_TRY(real(name, optarg, kind->low, kind->high, &limit));
            use(&a.o, name, limit);
            break;
        }
        case REPETITION_WORDS: BIF_TRY(bif_option_number(name, optarg, 1, &a.o.repetition_words)); break;
        case SCRIPT: a.o.scripts = optarg; break;
        case CAPTION_COLUMN:
            BIF_TRY(bif_option_whole_column(name, optarg));
            a.o.caption_column = optarg;
            break;
        case CLIP:
            BIF_TRY(bif_option_column(name, optarg));
            a.o.clip = optarg;
            break;
        case COLUMN:
            BIF_TRY(bif_option_whole_column(name, optarg));
            a.column[a.o.columns++] = (bif_prune_column){.name = optarg};
            break;
        case MIN: BIF_TRY(of_column(&a, name, optarg, &last->has_min, &last->min)); break;
        case MAX: BIF_TRY(of_column(&a, name, optarg, &last->has_max, &last->max)); break;
        case TOP: BIF_TRY(of_column(&a, name, optarg, &last->has_top, &last->top)); break;
        case SAME: BIF_TRY(bif_option_number(name, optarg, 1, &a.o.max_same_caption)); break;
        case MEMORY:
            BIF_TRY(bif_option_number(name, optarg, 1, &a.o.memory));
            a.o.memory = a.o.memory > (int64_t)1 << 40 ? INT64_MAX : a.o.memory << 20;
            break;
        case JSON: a.json = true; break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data prune: wrong option; see bifocal data prune --help"));
        }
    }
    a.shards = (const char *const *)(argv + optind);
    a.shard_count = (size_t)(argc - optind);
    BIF_TRY(check(&a));
    BIF_TRY(bif_with_team(1, run, &a));
done:
    free(a.column);
    return st;
}
