"""The addresses of the API: the document, both sides, and a 404 that is a problem."""

from django.urls import include, path, re_path
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import AllowAny

from rating.api.problems import not_found

schema = SpectacularAPIView.as_view(
    renderer_classes=[OpenApiJsonRenderer], permission_classes=[AllowAny], throttle_classes=[]
)
urlpatterns = [
    path("schema/", schema, name="api_schema"),
    path("", include("rating.api.urls")),
    path("", include("training.api.urls")),
    re_path(r"^(?P<rest>(?s:.*))$", not_found, name="api_not_found"),  # line breaks too
]
