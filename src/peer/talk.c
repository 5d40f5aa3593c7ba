/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/talk.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "peer/connect.h"

#define HANDSHAKE_MS 8000
#define SEND_MS 15000
#define FLOOR_BYTES KIB(64) /* a second: slower is as good as gone */
#define KEY_LABEL "EXPORTER-utsusu-move"
#define STREAM_LABEL "EXPORTER-utsusu-stream"
#define TALK_CONTEXT_MAX 256

struct talk {
	int fd;
	SSL *ssl;
	const struct peer *peer;
	struct buffer input;
};

DEFINE_CLEANUP(SSL_CTX, SSL_CTX_free, contextp)
DEFINE_CLEANUP(X509, X509_free, certificatep)
DEFINE_CLEANUP(X509_STORE, X509_STORE_free, storep)
DEFINE_CLEANUP(X509_STORE_CTX, X509_STORE_CTX_free, store_contextp)
DEFINE_CLEANUP(struct talk, talk_free, talkp)

/* Whether the key is one that is known is judged after the handshake (judge): any certificate proves that its key is there. */
static int take_any(X509_STORE_CTX *store _unused_, void *arg _unused_)
{
	return 1;
}

static SSL_CTX *make_context(const struct identity *identity)
{
	_cleanup_(contextp) SSL_CTX *context = SSL_CTX_new(TLS_method());

	if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_num_tickets(context, 0) != 1 || identity_use(identity, context) < 0)
		return NULL;
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(context, take_any, NULL);
	return TAKE_PTR(context);
}

static uint64_t due_in(unsigned int timeout_ms)
{
	return clock_now(&clock_host) + timeout_ms * NSEC_PER_MSEC;
}

static int wait_for(int fd, short events, uint64_t due_ns)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	uint64_t now = clock_now(&clock_host);
	int r;

	if (now >= due_ns)
		return -ETIMEDOUT;
	r = poll(&poll_fd, 1, (int)((due_ns - now) / NSEC_PER_MSEC) + 1);
	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	return r ? 0 : -ETIMEDOUT;
}

/* After an SSL call that did not succeed: 0 to call it again, or why not. */
static int go_on(struct talk *talk, int result, uint64_t due_ns)
{
	int saved = errno;

	switch (SSL_get_error(talk->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(talk->fd, POLLIN, due_ns);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(talk->fd, POLLOUT, due_ns);
	case SSL_ERROR_ZERO_RETURN:
		return -ENODATA;
	case SSL_ERROR_SYSCALL:
		return saved ? -saved : -ECONNRESET;
	default:
		/* An end without a farewell counts as an end, not as a lie. */
		return ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
			       ? -ECONNRESET
			       : -EPROTO;
	}
}

static int handshake(struct talk *talk, bool connects)
{
	uint64_t due_ns = due_in(HANDSHAKE_MS);
	int r = 0;

	while (r == 0) {
		int result;

		ERR_clear_error();
		result = connects ? SSL_connect(talk->ssl) : SSL_accept(talk->ssl);
		if (result == 1)
			return 0;
		r = go_on(talk, result, due_ns);
	}
	return r;
}

static int new_talk(const struct identity *identity, int fd, struct talk **ret_talk)
{
	_cleanup_(talkp) struct talk *talk = calloc(1, sizeof(*talk));
	_cleanup_(contextp) SSL_CTX *context = make_context(identity);
	int one = 1, r;

	if (!talk) {
		fd_close(fd);
		return -ENOMEM;
	}
	talk->fd = fd;
	buffer_init(&talk->input, LIMIT_PEER_LINE);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	r = fd_set_nonblocking(fd);
	if (r < 0)
		return r;
	talk->ssl = context ? SSL_new(context) : NULL;
	if (!talk->ssl || SSL_set_fd(talk->ssl, fd) != 1)
		return -ENOMEM;
	*ret_talk = TAKE_PTR(talk);
	return 0;
}

void talk_free(struct talk *talk)
{
	if (!talk)
		return;
	if (talk->ssl && SSL_is_init_finished(talk->ssl))
		(void)SSL_shutdown(talk->ssl);
	SSL_free(talk->ssl);
	fd_close(talk->fd);
	buffer_release(&talk->input);
	free(talk);
}

const struct peer *talk_peer(const struct talk *talk)
{
	return talk->peer;
}

int talk_fd(const struct talk *talk)
{
	return talk->fd;
}

/* The authority's signature, and the very name that the list has: never merely "signed by the authority". */
static bool signed_for(const struct peer *peer, X509 *certificate, STACK_OF(X509) * chain)
{
	_cleanup_(storep) X509_STORE *store = X509_STORE_new();
	_cleanup_(store_contextp) X509_STORE_CTX *context = X509_STORE_CTX_new();

	if (!store || !context || X509_STORE_load_file(store, peer->ca) != 1 ||
	    X509_STORE_CTX_init(context, store, certificate, chain) != 1)
		return false;
	return X509_verify_cert(context) == 1 &&
	       X509_check_host(certificate, peer->identity, strlen(peer->identity),
			       X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
}

static bool is_peer(const struct talk *talk, const struct peer *peer)
{
	_cleanup_(certificatep) X509 *certificate = SSL_get1_peer_certificate(talk->ssl);
	char fingerprint[PEER_FINGERPRINT_MAX];

	if (!certificate || identity_fingerprint_of(certificate, fingerprint) < 0)
		return false;
	if (peer->ca)
		return signed_for(peer, certificate, SSL_get_peer_cert_chain(talk->ssl));
	return peer->fingerprint[0] && strcmp(peer->fingerprint, fingerprint) == 0;
}

static void fingerprint_of_other(const struct talk *talk, char ret_text[PEER_FINGERPRINT_MAX])
{
	_cleanup_(certificatep) X509 *certificate = SSL_get1_peer_certificate(talk->ssl);

	if (!certificate || identity_fingerprint_of(certificate, ret_text) < 0)
		snprintf(ret_text, PEER_FINGERPRINT_MAX, "unknown");
}

static int not_that_one(const struct talk *talk, const struct peer *peer, struct error *err)
{
	char fingerprint[PEER_FINGERPRINT_MAX];

	fingerprint_of_other(talk, fingerprint);
	if (peer->ca)
		return error_set(
			err, -EACCES, EXIT_STATUS_RESOURCE,
			"%s: the host at %s is not signed as %s by %s; see its host.crt, and "
			"utsusu peer list here",
			peer->name, peer->address, peer->identity, peer->ca);
	return error_set(
		err, -EACCES, EXIT_STATUS_RESOURCE,
		"%s: the host at %s has the key %s, and the one known is %s: another host, or it "
		"was set up anew; ask there with utsusu peer show, and if that is so: utsusu peer "
		"remove %s, utsusu peer add %s %s",
		peer->name, peer->address, fingerprint, peer->fingerprint, peer->name, peer->name,
		peer->address);
}

static int connect_error(const struct peer *peer, int code, struct error *err)
{
	return error_set(
		err, code, EXIT_STATUS_RESOURCE,
		"%s: no connection to its daemon at %s port %u: %s; see there with systemctl status "
		"utsusud, and whether a firewall stands between",
		peer->name, peer->address, peer->port,
		code == -EPROTO ? "it does not speak as utsusud does" : strerror(-code));
}

/* TLS with whoever is there. */
static int open_talk(const struct identity *identity, const struct peer *peer,
		     struct talk **ret_talk, struct error *err)
{
	_cleanup_(talkp) struct talk *talk = NULL;
	int fd, r = connect_to(peer->address, peer->port, &fd, err);

	if (r < 0)
		return connect_error(peer, r, err);
	r = new_talk(identity, fd, &talk);
	if (r == 0)
		r = handshake(talk, true);
	if (r < 0)
		return connect_error(peer, r, err);
	*ret_talk = TAKE_PTR(talk);
	return 0;
}

/* What the other side says by itself: who it is, or why it will not speak. */
static int read_greeting(struct talk *talk, const char *name, json_t **ret_greeting,
			 struct error *err)
{
	json_auto_t *greeting = NULL;
	const json_t *error;
	int r = talk_receive(talk, HANDSHAKE_MS, &greeting);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: its daemon closed the connection: %s; see its log", name,
				 strerror(-r));
	error = json_object_get(greeting, "error");
	if (error)
		return error_set(err, -EACCES, EXIT_STATUS_RESOURCE, "%s: %s", name,
				 json_string_value(json_object_get(error, "message"))
					 ? json_string_value(json_object_get(error, "message"))
					 : "refuses to speak with this host");
	*ret_greeting = json_incref(greeting);
	return 0;
}

int talk_connect(const struct identity *identity, const struct peer *peer, struct talk **ret_talk,
		 struct error *err)
{
	_cleanup_(talkp) struct talk *talk = NULL;
	json_auto_t *greeting = NULL;
	char fingerprint[PEER_FINGERPRINT_MAX];
	int r = open_talk(identity, peer, &talk, err);

	if (r < 0)
		return r;
	fingerprint_of_other(talk, fingerprint);
	if (strcmp(fingerprint, identity_fingerprint(identity)) == 0)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: is this host itself; a move needs another one", peer->name);
	if (!is_peer(talk, peer))
		return not_that_one(talk, peer, err);
	r = read_greeting(talk, peer->name, &greeting, err);
	if (r < 0)
		return r;
	talk->peer = peer;
	*ret_talk = TAKE_PTR(talk);
	return 0;
}

int talk_probe(const struct identity *identity, const struct peer *peer,
	       char ret_fingerprint[PEER_FINGERPRINT_MAX], char ret_host[PEER_NAME_MAX],
	       struct error *err)
{
	_cleanup_(talkp) struct talk *talk = NULL;
	json_auto_t *greeting = NULL;
	struct error ignored = { 0 };
	const char *host = NULL;
	int r = open_talk(identity, peer, &talk, err);

	if (r < 0)
		return r;
	fingerprint_of_other(talk, ret_fingerprint);
	/* It may not know us yet: then it does not tell its name. */
	if (read_greeting(talk, peer->name, &greeting, &ignored) == 0)
		host = json_string_value(json_object_get(greeting, "host"));
	snprintf(ret_host, PEER_NAME_MAX, "%s", host && peer_name_valid(host) ? host : "");
	return 0;
}

static const struct peer *find_peer(const struct talk *talk, const struct peers *peers)
{
	for (uint32_t i = 0; i < peers->n; i++)
		if (is_peer(talk, &peers->list[i]))
			return &peers->list[i];
	return NULL;
}

/* The refusal names both sides' way out. */
static int refuse_stranger(struct talk *talk, const struct identity *identity, struct error *err)
{
	char fingerprint[PEER_FINGERPRINT_MAX], message[ERROR_MESSAGE_MAX];
	json_auto_t *refusal = NULL;

	fingerprint_of_other(talk, fingerprint);
	snprintf(
		message, sizeof(message),
		"%s does not know this host (%s); there: utsusu peer add NAME ADDRESS --fingerprint %s, "
		"with a name and the address of this host",
		identity_host(identity), fingerprint, fingerprint);
	refusal = json_pack("{s:{s:s, s:i}}", "error", "message", message, "status",
			    (int)EXIT_STATUS_RESOURCE);
	if (refusal && talk_send(talk, refusal) == 0)
		(void)wait_for(talk->fd, POLLIN, due_in(500)); /* so that it is read */
	return error_set(
		err, -EACCES, EXIT_STATUS_RESOURCE,
		"a host with the key %s is not among our peers and was refused; if it is one: "
		"utsusu peer add NAME ADDRESS --fingerprint %s",
		fingerprint, fingerprint);
}

int talk_accept(const struct identity *identity, const struct peers *peers, int fd,
		struct talk **ret_talk, struct error *err)
{
	_cleanup_(talkp) struct talk *talk = NULL;
	json_auto_t *greeting = NULL;
	int r = new_talk(identity, fd, &talk);

	if (r == 0) {
		SSL_set_accept_state(talk->ssl);
		r = handshake(talk, false);
	}
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "a connection was not understood: %s", strerror(-r));
	talk->peer = find_peer(talk, peers);
	if (!talk->peer)
		return refuse_stranger(talk, identity, err);
	greeting = json_pack("{s:s, s:s}", "utsusu", UTSUSU_VERSION, "host",
			     identity_host(identity));
	r = greeting ? talk_send(talk, greeting) : -ENOMEM;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE, "%s: %s", talk->peer->name,
				 strerror(-r));
	*ret_talk = TAKE_PTR(talk);
	return 0;
}

uint64_t talk_due(uint64_t len)
{
	return due_in(SEND_MS) + len * NSEC_PER_SEC / FLOOR_BYTES;
}

int talk_send_bytes(struct talk *talk, const void *bytes, size_t len, uint64_t due_ns)
{
	const char *from = bytes;

	while (len) {
		size_t n = 0;
		int result, r;

		ERR_clear_error();
		/* The same piece again after a wait, as SSL_write asks for. */
		while ((result = SSL_write_ex(talk->ssl, from, MIN(len, KIB(16)), &n)) != 1) {
			r = go_on(talk, result, due_ns);
			if (r < 0)
				return r;
			ERR_clear_error();
		}
		from += n;
		len -= n;
	}
	return 0;
}

int talk_send(struct talk *talk, json_t *message)
{
	_cleanup_(freep) char *text = json_dumps(message, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return -ENOMEM;
	if (len >= LIMIT_PEER_LINE)
		return -EMSGSIZE;
	text[len] = '\n'; /* in place of the NUL */
	return talk_send_bytes(talk, text, len + 1, talk_due(len));
}

/* Some bytes more, into `bytes`. */
static int receive_some(struct talk *talk, void *bytes, size_t size, uint64_t due_ns,
			size_t *ret_len)
{
	int result, r;

	ERR_clear_error();
	while ((result = SSL_read_ex(talk->ssl, bytes, size, ret_len)) != 1) {
		r = go_on(talk, result, due_ns);
		if (r < 0)
			return r;
		ERR_clear_error();
	}
	return 0;
}

/* A whole line from the buffer: 1, 0 when there is none yet, -EPROTO when it is no object. */
static int take_line(struct talk *talk, json_t **ret_message)
{
	size_t len;
	const char *text = buffer_line(&talk->input, &len);
	json_t *json;

	if (!text)
		return 0;
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	buffer_consume(&talk->input, len + 1);
	if (!json_is_object(json)) {
		json_decref(json);
		return -EPROTO;
	}
	*ret_message = json;
	return 1;
}

int talk_receive(struct talk *talk, unsigned int timeout_ms, json_t **ret_message)
{
	uint64_t due_ns = due_in(timeout_ms);
	int r;

	while ((r = take_line(talk, ret_message)) == 0) {
		char bytes[4096];
		size_t len;

		r = receive_some(talk, bytes, sizeof(bytes), due_ns, &len);
		if (r == 0)
			r = buffer_append(&talk->input, bytes, len);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : 0;
}

int talk_receive_bytes(struct talk *talk, void *bytes, size_t len, uint64_t due_ns)
{
	size_t early = MIN(len, talk->input.len);
	char *to = bytes;

	if (early) {
		memcpy(to, talk->input.data, early);
		buffer_consume(&talk->input, early);
	}
	for (size_t n; early < len; early += n) {
		int r = receive_some(talk, to + early, len - early, due_ns, &n);

		if (r < 0)
			return r;
	}
	return 0;
}

static int refused(const struct talk *talk, const json_t *error, struct error *err)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	json_int_t status = json_integer_value(json_object_get(error, "status"));

	if (!message || status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		return error_set(
			err, -EPROTO, EXIT_STATUS_FAILED,
			"%s: gave an answer that is not understood; use the same version of "
			"utsusu on both hosts",
			talk->peer->name);
	return error_set(err, -EREMOTEIO, (enum exit_status)status, "%s: %s", talk->peer->name,
			 message);
}

static int gone(const struct talk *talk, int code, struct error *err)
{
	return error_set(err, code, EXIT_STATUS_FAILED,
			 "%s: its daemon does not answer any more: %s; see its log",
			 talk->peer->name, strerror(-code));
}

int talk_answer(struct talk *talk, unsigned int timeout_ms, json_t **ret_answer, struct error *err)
{
	json_auto_t *answer = NULL;
	int r = talk_receive(talk, timeout_ms, &answer);

	if (r < 0)
		return gone(talk, r, err);
	if (!json_is_true(json_object_get(answer, "ok")))
		return refused(talk, json_object_get(answer, "error"), err);
	*ret_answer = json_incref(answer);
	return 0;
}

int talk_ask(struct talk *talk, json_t *request, struct error *err)
{
	json_auto_t *owned = request;
	int r = owned ? talk_send(talk, owned) : -ENOMEM;

	return r < 0 ? gone(talk, r, err) : 0;
}

int talk_call(struct talk *talk, json_t *request, unsigned int timeout_ms, json_t **ret_answer,
	      struct error *err)
{
	int r = talk_ask(talk, request, err);

	return r < 0 ? r : talk_answer(talk, timeout_ms, ret_answer, err);
}

static int export(struct talk *talk, const char *label, const char *context, uint8_t *ret_bytes)
{
	return SSL_export_keying_material(talk->ssl, ret_bytes, TALK_KEY_BYTES, label,
					  strlen(label), (const unsigned char *)context,
					  strlen(context), 1) == 1
		       ? 0
		       : -EPROTO;
}

int talk_key(struct talk *talk, const char *context, uint8_t ret_key[TALK_KEY_BYTES])
{
	return export(talk, KEY_LABEL, context, ret_key);
}

int talk_stream_token(struct talk *talk, const char *context, uint32_t stream,
		      uint8_t ret_token[TALK_KEY_BYTES])
{
	char text[TALK_CONTEXT_MAX + 16];

	if (snprintf(text, sizeof(text), "%s:%u", context, stream) >= (int)sizeof(text))
		return -EINVAL;
	return export(talk, STREAM_LABEL, text, ret_token);
}
