/* bifocal chat CHECKPOINT [--image FILE]... */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "eval/talk.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/with_comm.h"

typedef struct {
    const char *checkpoint;
    bif_session_options session;
    const char **pictures;
    size_t picture_count;
    bif_decoding decoding;
} arguments;

static void help(void)
{
    puts("usage: bifocal chat CHECKPOINT [--image FILE]... [...]\n\n"
         "A conversation on the terminal, or of lines of standard input, one a turn. Each answer is what the model finds most likely,\n"
         "token by token, behind all that was said, written as in its training. CHECKPOINT: a Hugging Face folder, or a run's folder.\n\n"
         "  --image FILE             a picture for the first turn (repeatable)\n"
         "  --max-new-tokens N       longest answer (512)\n"
         "  --temperature X          sample at this temperature (0: the likeliest token)\n"
         "  --top-p X                sample from the likeliest tokens that make up this share (1)\n"
         "  --top-k N                sample from so many of the likeliest tokens (0 = all)\n"
         "  --seed N                 of sampling (0)\n"
         "  --template NAME          " BIF_TEMPLATE_NAMES "\n"
         "                           (default: as trained)\n"
         "  --system TEXT            system text (default: as trained)\n"
         "  --image-fit NAME         crop, pad or squash (default: as trained)\n"
         "  --image-place NAME       front, keep or llava_next: where <image> of a turn goes (default: as trained)\n"
         "  --tokenizer PATH         tokenizer file or folder (default: the checkpoint's)\n"
         "  --device NAME            cpu, cuda, cuda:N or auto (cpu)\n"
         "  --precision NAME         auto, fp32 or bf16 (auto: bf16 on CUDA, fp32 on the CPU)\n"
         "  --threads N              CPU threads (0 = all cores)\n"
         "  --base DIR               the base of a LoRA adapter (default: as adapter_config.json says)\n"
         "  --tower DIR              the vision tower, where the checkpoint only names it\n"
         "  --best                   of a run's folder the checkpoint that best.json names, not the newest\n\n"
         "Lines that begin with / are commands: /image FILE (shown with the next turn), /reset, /system TEXT (and a new conversation),\n"
         "/save FILE (LLaVA's JSON; data pack takes it where pictures are named relative to its image root), /help, /quit; // stands\n"
         "for a / of a turn. Ctrl-C ends an answer, Ctrl-D the conversation.");
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static bool go_on(void *context)
{
    (void)context;
    return interrupted == 0;
}

/* What a model says reaches a terminal without its control characters. */
static void put_answer(void *context, const char *text, size_t size)
{
    const bool *plain = context;
    uint32_t code = 0;
    for (size_t at = 0, step = 0; at < size; at += step) {
        step = bif_utf8_decode(text + at, size - at, &code);
        step = step > 0 ? step : 1;
        const bool control = (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7f && code < 0xa0);
        fwrite(*plain && control ? "\xEF\xBF\xBD" : text + at, 1, *plain && control ? 3 : step, stdout);
    }
    fflush(stdout);
}

typedef struct {
    bif_talk *talk;
    bif_session *session;
    bool terminal; /* both ends are one: prompts are shown, and an error is no reason to leave */
    bool quit;
} loop;

static void say_hints(const loop *l)
{
    printf("%s, template %s, %lld positions. /image FILE, /reset, /system TEXT, /save FILE, /quit; Ctrl-C ends an answer, Ctrl-D leaves.\n",
           l->session->folder, bif_template_name(l->session->chat.kind), (long long)l->session->chat.max_tokens);
}

/* The rest of a line behind a command, or NULL if it is another one. */
static const char *behind(const char *line, const char *command)
{
    const size_t size = strlen(command);
    if (strncmp(line, command, size) != 0 || (line[size] != '\0' && line[size] != ' ')) {
        return NULL;
    }
    return line + size + strspn(line + size, " ");
}

static bif_status obey(loop *l, const char *line)
{
    const char *rest;
    if ((rest = behind(line, "/image")) != NULL) {
        return *rest != '\0' ? bif_talk_image(l->talk, rest) : bif_fail(BIF_ERR_USAGE, "/image wants a file");
    }
    if ((rest = behind(line, "/save")) != NULL) {
        const bif_status st = *rest != '\0' ? bif_talk_save(l->talk, rest) : bif_fail(BIF_ERR_USAGE, "/save wants a file");
        if (st == BIF_OK && l->terminal) {
            printf("saved %lld turns\n", (long long)bif_talk_turns(l->talk));
        }
        return st;
    }
    if ((rest = behind(line, "/system")) != NULL) {
        if (bif_utf8_check(rest, strlen(rest)) < strlen(rest)) {
            return bif_fail(BIF_ERR_DATA, "/system: not UTF-8");
        }
        bif_talk_system(l->talk, rest);
    } else if (behind(line, "/reset") != NULL) {
        bif_talk_reset(l->talk);
    } else if (behind(line, "/quit") != NULL) {
        l->quit = true;
    } else if (behind(line, "/help") != NULL) {
        say_hints(l);
    } else {
        return bif_fail(BIF_ERR_USAGE, "'%.40s' is no command; /image, /reset, /system, /save, /help and /quit are (// begins a"
                        " turn with /)", line);
    }
    return BIF_OK;
}

static bif_status say(loop *l, const char *text)
{
    bif_talk_end end = BIF_TALK_ENDED;
    const bif_talk_listener listener = {.put = put_answer, .go_on = go_on, .context = &(bool){isatty(STDOUT_FILENO) != 0}};
    interrupted = 0;
    const bif_status st = bif_talk_say(l->talk, text, &listener, &end);
    if (st != BIF_OK) {
        return st;
    }
    puts("");
    fflush(stdout);
    if (end == BIF_TALK_LONG) {
        fprintf(stderr, "(cut: the answer has as many tokens as --max-new-tokens allows)\n");
    } else if (end == BIF_TALK_FULL) {
        fprintf(stderr, "(cut: the model's %lld positions are full; /reset begins a new conversation)\n",
                (long long)l->session->chat.max_tokens);
    } else if (end == BIF_TALK_INTERRUPTED) {
        fprintf(stderr, "(interrupted)\n");
    }
    return BIF_OK;
}

/* A line is a turn, a command, or empty: nothing, unless a picture waits to be shown alone. */
static bif_status take_line(loop *l, char *line, size_t size)
{
    if (strlen(line) != size) {
        return bif_fail(BIF_ERR_DATA, "a line with a zero byte");
    }
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) {
        line[--size] = '\0';
    }
    if (*line == '/' && line[1] != '/') {
        return obey(l, line);
    }
    return *line != '\0' || bif_talk_waiting(l->talk) > 0 ? say(l, *line == '/' ? line + 1 : line) : BIF_OK;
}

static bif_status converse(loop *l)
{
    bif_status st = BIF_OK;
    char *line = NULL;
    size_t capacity = 0;
    while (st == BIF_OK && !l->quit) {
        if (l->terminal) {
            fputs(bif_talk_waiting(l->talk) > 0 ? "[picture] > " : "> ", stdout);
            fflush(stdout);
        }
        interrupted = 0;
        errno = 0;
        const ssize_t size = getline(&line, &capacity, stdin);
        if (size < 0 && errno == EINTR && l->terminal) {
            clearerr(stdin);
            puts("\n(Ctrl-D leaves)");
            continue;
        }
        if (size < 0) {
            st = ferror(stdin) && errno != EINTR ? bif_fail(BIF_ERR_IO, "standard input cannot be read: %s", strerror(errno)) : BIF_OK;
            break;
        }
        st = take_line(l, line, (size_t)size);
        if (l->terminal && (st == BIF_ERR_USAGE || st == BIF_ERR_DATA || st == BIF_ERR_IO)) {
            bif_report(st);
            st = BIF_OK;
        }
    }
    if (l->terminal && !l->quit) {
        puts("");
    }
    free(line);
    return st;
}

static bif_status run_chat(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    loop l = {.session = &session, .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    struct sigaction act = {.sa_handler = on_interrupt}, before; /* without SA_RESTART: a read returns */
    if (bif_comm_world(comm) > 1) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "chat: a conversation has one process; start it without mpirun"));
    }
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_LLAVA | 1u << BIF_MODEL_DECODER, &a->session, comm, &session));
    l.talk = bif_talk_new(&session, &a->decoding);
    for (size_t i = 0; i < a->picture_count; i++) {
        BIF_TRY(bif_talk_image(l.talk, a->pictures[i]));
    }
    if (l.terminal) {
        say_hints(&l);
    }
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, &before);
    st = converse(&l);
    sigaction(SIGINT, &before, NULL);
done:
    bif_talk_free(l.talk);
    bif_session_close(&session);
    return st;
}

bif_status bif_cmd_chat(int argc, char **argv)
{
    enum { OPT_IMAGE = 256, OPT_MAX_NEW, OPT_TEMPERATURE, OPT_TOP_P, OPT_TOP_K, OPT_SEED, OPT_TEMPLATE, OPT_SYSTEM, OPT_FIT, OPT_PLACE,
           OPT_TOKENIZER, OPT_DEVICE, OPT_PRECISION, OPT_THREADS, OPT_BASE, OPT_TOWER, OPT_BEST };
    static const struct option options[] = {{"image", required_argument, NULL, OPT_IMAGE},
                                            {"max-new-tokens", required_argument, NULL, OPT_MAX_NEW},
                                            {"temperature", required_argument, NULL, OPT_TEMPERATURE},
                                            {"top-p", required_argument, NULL, OPT_TOP_P},
                                            {"top-k", required_argument, NULL, OPT_TOP_K},
                                            {"seed", required_argument, NULL, OPT_SEED},
                                            {"template", required_argument, NULL, OPT_TEMPLATE},
                                            {"system", required_argument, NULL, OPT_SYSTEM},
                                            {"image-fit", required_argument, NULL, OPT_FIT},
                                            {"image-place", required_argument, NULL, OPT_PLACE},
                                            {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
                                            {"device", required_argument, NULL, OPT_DEVICE},
                                            {"precision", required_argument, NULL, OPT_PRECISION},
                                            {"threads", required_argument, NULL, OPT_THREADS},
                                            {"base", required_argument, NULL, OPT_BASE},
                                            {"tower", required_argument, NULL, OPT_TOWER},
                                            {"best", no_argument, NULL, OPT_BEST},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    arguments a = {.decoding = {.max_new = 512, .top_p = 1.0, .length_penalty = 1.0}, .session = {.device = "cpu"}};
    a.pictures = bif_calloc((size_t)argc, sizeof *a.pictures);
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        int64_t n = 0;
        switch (c) {
        case OPT_IMAGE: a.pictures[a.picture_count++] = optarg; break;
        case OPT_MAX_NEW: BIF_TRY(bif_option_number("max-new-tokens", optarg, 1, &a.decoding.max_new)); break;
        case OPT_TEMPERATURE: BIF_TRY(bif_option_real("temperature", optarg, &a.decoding.temperature)); break;
        case OPT_TOP_P: BIF_TRY(bif_option_real("top-p", optarg, &a.decoding.top_p)); break;
        case OPT_TOP_K: BIF_TRY(bif_option_number("top-k", optarg, 0, &a.decoding.top_k)); break;
        case OPT_SEED:
            BIF_TRY(bif_option_number("seed", optarg, 0, &n));
            a.decoding.seed = (uint64_t)n; break;
        case OPT_TEMPLATE: a.session.template_name = optarg; break;
        case OPT_SYSTEM: a.session.system = optarg; break;
        case OPT_FIT: a.session.image_fit = optarg; break;
        case OPT_PLACE: a.session.image_place = optarg; break;
        case OPT_TOKENIZER: a.session.tokenizer = optarg; break;
        case OPT_DEVICE: a.session.device = optarg; break;
        case OPT_PRECISION: BIF_TRY(bif_option_precision(optarg, &a.session.precision)); break;
        case OPT_THREADS:
            BIF_TRY(bif_option_number("threads", optarg, 0, &n));
            a.session.threads = (int)n;
            break;
        case OPT_BASE: a.session.beside.base = optarg; break;
        case OPT_BEST: a.session.best = true; break;
        case OPT_TOWER: a.session.beside.tower = optarg; break;
        case 'h': help(); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "chat: wrong option; see bifocal chat --help"));
        }
    }
    if (argc - optind != 1) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "chat: name one checkpoint; see bifocal chat --help"));
    }
    a.checkpoint = argv[optind];
    BIF_TRY(bif_with_comm(run_chat, &a));
done:
    free(a.pictures);
    return st;
}
