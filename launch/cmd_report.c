/* bifocal report [CHECKPOINT=]SCORES.json[@SPLIT]... --out DIR */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/report.h"
#include "eval/score.h"
#include "launch/commands.h"
#include "launch/options.h"

typedef struct {
    const char *out;
    const char **like;
    size_t like_count;
    bif_report_page page;
} arguments;

static void help(void)
{
    puts("usage: bifocal report --out DIR [CHECKPOINT=]SCORES.json[@SPLIT]... [options]\n\n"
         "A table of tasks and checkpoints, beside LLaVA-1.5's published numbers, from what `bifocal score` printed with `--json` (and\n"
         "of which `--items` keeps the questions): on the terminal, and in DIR as report.md, report.csv, report.json and report.html, one\n"
         "page with everything in it, also questions with their pictures. CHECKPOINT: the column (default: the name of the file's\n"
         "folder). SPLIT: of what a benchmark's server scored, write\n"
         "{\"task\": \"vqav2\", \"metrics\": [{\"name\": \"accuracy\", \"value\": 78.4}]}\n"
         "and name it vqav2.json@test-dev; vizwiz @test and mmbench @cn (the Chinese one) have published numbers too.\n\n"
         "  --out DIR            where the files go; made if it is not there\n"
         "  --like MODEL         hold the numbers against 7b, 13b, 7b-lora or 13b-lora of LLaVA-1.5 (repeatable; CHECKPOINT=MODEL: one\n"
         "                       column's)\n"
         "  --questions FILE     what was asked, to show beside the answers: JSONL with question_id, question (or text) and image, or a\n"
         "                       table with index, question and image (repeatable; bifocal's own predictions hold them already)\n"
         "  --image-root DIR     folder that the pictures' names are relative to; without it no pictures; TASK=DIR: of one task\n"
         "                       (repeatable)\n"
         "  --shards PATH        instead of it a shard or a folder of them (repeatable), as bifocal eval --shards takes\n"
         "  --samples N          questions to show of each kind (right, wrong, differ) and task (12)\n"
         "  --title TEXT         of the page");
}

static bif_status write_files(const arguments *a, const bif_score_report *report)
{
    bif_status st = BIF_OK;
    bif_text_buffer text = {0};
    char *path = NULL;
    json_t *json = NULL;
    BIF_TRY(bif_make_dirs(a->out));
    BIF_TRY(bif_report_html(report, &a->page, &text));
    path = bif_path_join(a->out, "report.html");
    BIF_TRY(bif_file_write(path, text.text, text.size));
    free(path);
    bif_text_clear(&text);
    bif_report_markdown(report, &text);
    path = bif_path_join(a->out, "report.md");
    BIF_TRY(bif_file_write(path, text.text, text.size));
    free(path);
    bif_text_clear(&text);
    bif_report_csv(report, &text);
    path = bif_path_join(a->out, "report.csv");
    BIF_TRY(bif_file_write(path, text.text, text.size));
    free(path);
    path = bif_path_join(a->out, "report.json");
    json = bif_report_json(report);
    BIF_TRY(bif_json_save_file(path, json));
    bif_text_clear(&text);
    bif_report_terminal(report, &text);
    fwrite(text.text, 1, text.size, stdout);
    printf("%s/report.html, .md, .csv, .json\n", a->out);
done:
    json_decref(json);
    free(path);
    bif_text_free(&text);
    return st;
}

/* [CHECKPOINT=]FILE[@SPLIT]. A file of the whole name wins over a split. */
static bif_status add(bif_score_report *report, const char *argument)
{
    char *text = bif_strdup(argument), *path = text, *checkpoint = NULL, *split = NULL;
    char *equals = strchr(text, '=');
    if (equals != NULL && !bif_exists(text)) {
        *equals = '\0';
        checkpoint = bif_strdup(text);
        path = equals + 1;
    }
    char *at = strrchr(path, '@');
    if (at != NULL && strchr(at, '/') == NULL && !bif_exists(path)) {
        *at = '\0';
        split = at + 1;
    }
    if (checkpoint == NULL) {
        char *folder = bif_path_parent(path), *real = realpath(folder, NULL);
        checkpoint = bif_strdup(bif_path_base(real != NULL ? real : folder));
        free(folder);
        free(real);
    }
    const bif_status st = bif_report_add(report, checkpoint, path, split);
    free(checkpoint);
    free(text);
    return st;
}

/* Of TASK=DIR. */
static bif_status check_task(const char *root)
{
    char *task = bif_span_copy((bif_span){root, strcspn(root, "=")});
    const bif_status st = bif_score_task_by_name(task) != NULL
                              ? BIF_OK
                              : bif_fail(BIF_ERR_USAGE, "--image-root %s: there is no folder of that name and no task '%s'", root, task);
    free(task);
    return st;
}

bif_status bif_cmd_report(int argc, char **argv)
{
    enum { OPT_OUT = 256, OPT_LIKE, OPT_QUESTIONS, OPT_ROOT, OPT_SAMPLES, OPT_TITLE, OPT_SHARDS };
    static const struct option options[] = {{"out", required_argument, NULL, OPT_OUT},
                                            {"like", required_argument, NULL, OPT_LIKE},
                                            {"questions", required_argument, NULL, OPT_QUESTIONS},
                                            {"image-root", required_argument, NULL, OPT_ROOT},
                                            {"shards", required_argument, NULL, OPT_SHARDS},
                                            {"samples", required_argument, NULL, OPT_SAMPLES},
                                            {"title", required_argument, NULL, OPT_TITLE},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_score_report report = {0};
    arguments a = {.page = {.title = "Scores", .most = 12}};
    const char **questions = bif_calloc((size_t)argc, sizeof *questions);
    const char **shards = bif_calloc((size_t)argc, sizeof *shards);
    size_t shard_count = 0;
    const char **roots = bif_calloc((size_t)argc, sizeof *roots);
    bif_questions pictures = {0};
    a.page.questions = questions;
    a.page.task_roots = roots;
    a.like = bif_calloc((size_t)argc, sizeof *a.like);
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case OPT_OUT: a.out = optarg; break;
        case OPT_LIKE: a.like[a.like_count++] = optarg; break;
        case OPT_QUESTIONS: questions[a.page.question_files++] = optarg; break;
        case OPT_ROOT:
            if (strchr(optarg, '=') == NULL || bif_exists(optarg)) {
                a.page.image_root = optarg;
            } else {
                BIF_TRY(check_task(optarg));
                roots[a.page.task_root_count++] = optarg;
            }
            break;
        case OPT_SHARDS: shards[shard_count++] = optarg; break;
        case OPT_SAMPLES: BIF_TRY(bif_option_number("samples", optarg, 0, &a.page.most)); break;
        case OPT_TITLE: a.page.title = optarg; break;
        case 'h': help(); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "report: wrong option; see bifocal report --help"));
        }
    }
    BIF_TRY(bif_option_need("report", "out", a.out));
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "report: name at least one file of scores; see bifocal report --help"));
    }
    for (int i = optind; i < argc; i++) {
        BIF_TRY(add(&report, argv[i]));
    }
    for (int pass = 0; pass < 2; pass++) { /* those of one column win */
        for (size_t i = 0; i < a.like_count; i++) {
            const char *equals = strrchr(a.like[i], '=');
            char *checkpoint = equals != NULL ? bif_span_copy((bif_span){a.like[i], (size_t)(equals - a.like[i])}) : NULL;
            if ((equals != NULL) == (pass == 1)) {
                st = bif_report_like(&report, checkpoint, equals != NULL ? equals + 1 : a.like[i]);
            }
            free(checkpoint);
            BIF_TRY(st);
        }
    }
    if (shard_count > 0) {
        BIF_TRY(a.page.image_root == NULL && a.page.task_root_count == 0 ? BIF_OK : bif_fail(BIF_ERR_USAGE, "report: pictures are either in --image-root or in --shards"));
        BIF_TRY(bif_questions_open_shards(&pictures, shards, shard_count));
        a.page.shards = &pictures;
    }
    st = write_files(&a, &report);
done:
    bif_questions_free(&pictures);
    free(shards);
    free(roots);
    bif_report_free(&report);
    free(questions);
    free(a.like);
    return st;
}
