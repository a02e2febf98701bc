/* bifocal submit TASK PREDICTIONS --questions FILE --out FILE */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "eval/submit.h"
#include "launch/commands.h"
#include "launch/options.h"

static void help(void)
{
    puts("usage: bifocal submit TASK PREDICTIONS --questions FILE --out FILE [options]\n\n"
         "Writes predictions (any file that score takes) in the form that a benchmark's server wants, for all of its questions in their\n"
         "order.\n\n"
         "  --questions FILE     the benchmark's questions (repeatable; see the tasks below)\n"
         "  --out FILE           what is written\n"
         "  --missing            questions without a prediction get an empty one (VQAv2's test asks for all of test, of which test-dev\n"
         "                       is a part) instead of ending it; they are counted\n"
         "  --allow-unknown      leave out predictions of ids that the questions do not have\n"
         "  --allow-duplicates   of several predictions of one id take the last\n\n"
         "tasks:");
    for (const bif_submit_task *t = bif_submit_tasks; t->name != NULL; t++) {
        printf("  %-9s questions: %s\n  %-9s written: %s\n", t->name, t->questions, "", t->form);
    }
}

bif_status bif_cmd_submit(int argc, char **argv)
{
    enum { OPT_QUESTIONS = 256, OPT_OUT, OPT_MISSING, OPT_UNKNOWN, OPT_DUPLICATES };
    static const struct option options[] = {{"questions", required_argument, NULL, OPT_QUESTIONS},
                                            {"out", required_argument, NULL, OPT_OUT},
                                            {"missing", no_argument, NULL, OPT_MISSING},
                                            {"allow-unknown", no_argument, NULL, OPT_UNKNOWN},
                                            {"allow-duplicates", no_argument, NULL, OPT_DUPLICATES},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    const char **questions = bif_calloc((size_t)argc, sizeof *questions), *out = NULL;
    size_t count = 0;
    bif_score_policy policy = {.remedy = "--missing gives them an empty one"};
    bif_score_counts counts;
    int64_t written = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case OPT_QUESTIONS: questions[count++] = optarg; break;
        case OPT_OUT: out = optarg; break;
        case OPT_MISSING: policy.missing = BIF_MISSING_WRONG; break;
        case OPT_UNKNOWN: policy.allow_unknown = true; break;
        case OPT_DUPLICATES: policy.allow_duplicates = true; break;
        case 'h': help(); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "submit: wrong option; see bifocal submit --help"));
        }
    }
    if (argc - optind != 2 || count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "submit: name a task, a file of predictions and --questions; see bifocal submit --help"));
    }
    BIF_TRY(bif_option_need("submit", "out", out));
    BIF_TRY(bif_option_writable("out", out));
    BIF_TRY(bif_option_apart("out", out, questions, count));
    BIF_TRY(bif_option_apart("out", out, (const char *[]){argv[optind + 1]}, 1));
    BIF_TRY(bif_submit(argv[optind], argv[optind + 1], questions, count, &policy, out, &written, &counts));
    printf("%s: %lld questions", out, (long long)written);
    if (counts.missing > 0) {
        printf(", %lld of them without a prediction (empty)", (long long)counts.missing);
    }
    if (counts.unknown + counts.duplicates > 0) {
        printf("; %lld predictions left out, %lld replaced by later ones", (long long)counts.unknown, (long long)counts.duplicates);
    }
    puts("");
done:
    free(questions);
    return st;
}
