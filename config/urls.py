"""The addresses: sign-in, languages, the administration, the rating desk, the training rooms."""

from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language

handler400 = "config.errors.bad_request"
handler500 = "config.errors.server_error"
urlpatterns = [
    path("language/", set_language, name="set_language"),
    path("account/", include("allauth.account.urls")),
    path("admin/", admin.site.urls),
    path("api/", include("config.api")),
    path("", include("rating.urls")),
    path("", include("training.urls")),
]
