"""Regions of a page that ask again by themselves while something moves, and answer 204 when nothing did."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from rating.services.texts import hash_text


def digest_region(request: HttpRequest, region: str, context: dict[str, Any]) -> str:
    """A short digest of what a partial shows; the partial holds nothing that differs by itself."""
    return hash_text(render_to_string(region, context, request))[:16]


def render_polled(request: HttpRequest, page: str, region: str, context: dict[str, Any]) -> HttpResponse:
    """The page, or for htmx its partial `region`; 204 when `?seen=` is the digest of what would be shown.

    The partial `region` of the page wraps the partial `<region>_inside`, and gets its digest as `seen`.
    """
    context["seen"] = digest_region(request, f"{page}#{region}_inside", context)
    if not request.headers.get("HX-Request"):
        return render(request, page, context)
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, f"{page}#{region}", context)
