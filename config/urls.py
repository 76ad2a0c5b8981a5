"""The addresses: sign-in, the administration, the rating desk, the training rooms."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("account/", include("allauth.account.urls")),
    path("admin/", admin.site.urls),
    path("", include("rating.urls")),
    path("", include("training.urls")),
]
