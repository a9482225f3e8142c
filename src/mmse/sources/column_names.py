"""The names that shops give their columns, in English and some other languages, the usual first.

They are written in small letters without accents, with `_` between words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmse.text.terms import fold


def _names(english: str, others: str = "") -> tuple[str, ...]:
    return (*english.split(), *others.split())


ITEM_NAMES = {
    "item_id": _names(
        "item_id sku product_id id article_id article asin object_id handle upc",
        "matnr artikelnummer artikel_nr artnr artikel_id produkt_id produktnummer id_produit id_producto id_prodotto "
        "codigo",
    ),
    "title": _names(
        "title name product_title product_name item_name item_title label",
        "maktx titel bezeichnung artikelbezeichnung produktname titre nom nom_produit designation nombre titulo nome "
        "titolo",
    ),
    "category": _names(
        "category category_path primary_category categories product_type google_product_category breadcrumb",
        "kategorie warengruppe categorie categoria rubrik",
    ),
    "brand": _names(
        "brand manufacturer vendor make brand_name product_brand manufacturer_name",
        "marke hersteller marque fabricant marca merk",
    ),
    "seller": _names("seller merchant shop store seller_name"),
    "price": _names(
        "price sale_price current_price regular_price price_value unit_price",
        "preis verkaufspreis prix precio prezzo prijs preco",
    ),
    "available": _names(
        "available in_stock is_in_stock availability online_availability is_available active",
        "verfuegbar verfugbar lieferbar disponible disponibile",
    ),
    "rating": _names("rating review_average average_rating avg_rating stars", "bewertung"),
    "item_group": _names("item_group item_group_id product_group_id parent_sku parent_asin parent_product_id"),
}
"""Names of the columns of items, by ours."""
CODE_NAMES = _names(
    "upc ean ean13 gtin gtin13 gtin14 barcode isbn mpn model_number model_no part_number article_number item_number "
    "manufacturer_number manufacturer_part_number oem_number asin sku style_number",
    "herstellernummer artikelnummer hersteller_artikelnummer modellnummer reference_fabricant",
)
"""Names of the columns of numbers that shoppers type to find an item."""
PICTURE_NAMES = _names(
    "image image_url image_link picture picture_url thumbnail thumbnail_url img img_url photo photo_url",
    "bild bild_url",
)
LINK_NAMES = _names("link url product_url product_link item_url page_url canonical_url permalink")
"""Names of the columns that a page shows and no search reads."""
EVENT_NAMES = {
    "request_id": _names("request_id search_id query_id impression_id serp_id req_id"),
    "timestamp": _names(
        "timestamp query_time event_time time ts datetime created_at date",
        "zeitstempel zeitpunkt zeit datum horodatage fecha data_ora tijdstip",
    ),
    "query": _names(
        "query search_term search_query keywords keyword search_terms term user_query q",
        "suchbegriff suchanfrage suchwort suche requete recherche terme busqueda consulta ricerca zoekterm",
    ),
    "item_id": (
        *ITEM_NAMES["item_id"],
        *_names("item product reference document_id doc_id", "artikel produkt produit producto prodotto"),
    ),
    "position": _names("position rank pos place slot ordinal click_rank", "rang platz posicion posizione positie"),
    "clicked": _names("clicked click is_click is_clicked clicks", "geklickt klick klicks clic clics"),
    "carted": _names("carted add_to_cart in_cart cart added_to_cart", "warenkorb panier carrito"),
    "ordered": _names(
        "ordered purchased order bought purchase is_purchase conversion converted",
        "bestellt gekauft bestellung achat achete commande compra comprado pedido",
    ),
    "user_id": _names(
        "user_id user visitor_id customer_id client_id uid anonymous_id shopper_id",
        "nutzer_id nutzer benutzer_id kunden_id kundennummer kunde client cliente id_client id_cliente usuario",
    ),
    "session_id": _names("session_id session visit_id session_key", "sitzung sitzungs_id sesion"),
    "explored": _names("explored is_random randomized exploration"),
    "propensity": _names("propensity propensity_score"),
}
"""Names of the columns of events, by ours."""


def plain_name(name: str) -> str:
    """A column's name as it is written here: `productId`, `Product ID` and `product-id` are one."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", fold(snake)).strip("_")


def are_of_log(columns: Iterable[str]) -> bool:
    """Whether `columns` are those of a log: a time, and something that a search or a shopper has."""
    names = {plain_name(column) for column in columns}
    has_time = any(name in names for name in EVENT_NAMES["timestamp"])
    signs = ("query", "clicked", "ordered", "session_id", "user_id", "request_id")
    return has_time and any(name in names for sign in signs for name in EVENT_NAMES[sign])
