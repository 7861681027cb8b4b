"""Django: a token for every request, by a middleware.

    MIDDLEWARE = [..., "with_django.identify"]     # behind what puts the token into the request
    DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "PASSWORD": "<service token>", ...}}
"""

from django.db import connection


def identify(get_response):
    def middleware(request):
        with connection.cursor() as cursor:
            cursor.execute("select set_config('cloison.jwt', %s, false)", [request.token])
        try:
            return get_response(request)
        finally:
            # The connection outlives the request (CONN_MAX_AGE), the identity must not.
            if connection.connection is not None and not connection.needs_rollback:
                with connection.cursor() as cursor:
                    cursor.execute("reset cloison.jwt")
            else:
                connection.close()

    return middleware
