"""The published formats that are declarations; a new one is an entry of `FORMATS`.

`mmse.sources.ubi` and `mmse.sources.ga4` read formats that need more than that.
"""

from __future__ import annotations

from mmse.sources.published import PublishedFormat


def _metarank_field(name: str) -> str:
    """SQL for a value of Metarank's list of fields, of the first of several names."""
    fields = "json_extract(doc, '$.fields[*]')"
    return f"(list_filter({fields}, lambda field: (field ->> '$.name') = '{name}')[1] ->> '$.value')"


_METARANK_FIELDS = (
    "map_from_entries(list_transform(json_extract(doc, '$.fields[*]'), "
    "lambda field: (field ->> '$.name', field -> '$.value')))"
)
_SHOPIFY = "coalesce({Handle}, {URL handle})"
_OF_PRODUCT = f"OVER (PARTITION BY {_SHOPIFY})"
_IS_VARIATION = "contains(lower(coalesce({Type}, '')), 'variation')"
_WOO_KEY = f"CASE WHEN {_IS_VARIATION} THEN {{Parent}} ELSE {{SKU}} END"
_ALGOLIA_ITEM = "(entry ->> '$')"

FORMATS: dict[str, PublishedFormat] = {
    "algolia_searches": PublishedFormat(
        table="events",
        source="the answers of Algolia's Search API, with clickAnalytics and a timestamp that the shop's log adds",
        signs=("queryID", "hits", "query"),
        entries="json_extract(doc, '$.hits[*]')",
        condition="{queryID} IS NOT NULL",
        unread="{queryID} IS NULL",
        unread_because="answers without a queryID: ask with clickAnalytics",
        columns={
            "request_id": "{queryID}",
            "timestamp": "{timestamp}",
            "query": "{query}",
            "user_id": "{userToken}",
            "item_id": "{entry:objectID}",
            "position": "coalesce(TRY_CAST({page} AS INTEGER) * TRY_CAST({hitsPerPage} AS INTEGER), 0) + place",
        },
    ),
    "algolia_events": PublishedFormat(
        table="events",
        source="Algolia's Insights API, https://www.algolia.com/doc/rest-api/insights/push-events",
        signs=("eventType", "objectIDs", "userToken"),
        entries="json_extract(doc, '$.objectIDs[*]')",
        condition="{eventType} IN ('click', 'conversion') AND {queryID} IS NOT NULL",
        unread="{eventType} IN ('click', 'conversion') AND {queryID} IS NULL",
        unread_because="clicks and conversions without a queryID, which came of no search",
        columns={
            "request_id": "{queryID}",
            "timestamp": "{timestamp}",
            "user_id": "coalesce({authenticatedUserToken}, {userToken})",
            "item_id": _ALGOLIA_ITEM,
            "clicked": "{eventType} = 'click'",
            "carted": "coalesce({eventSubtype}, '') = 'addToCart'",
            "ordered": "{eventType} = 'conversion' AND coalesce({eventSubtype}, 'purchase') = 'purchase'",
            "price": "json_extract(doc, '$.objectData[*]')[place] ->> '$.price'",
        },
    ),
    "metarank_items": PublishedFormat(
        table="items",
        source="Metarank's events, https://docs.metarank.ai/reference/event-schema",
        signs=("event", "item", "fields"),
        condition="{event} = 'item'",
        latest_of="{item}",
        columns={
            "item_id": "{item}",
            "title": f"coalesce({_metarank_field('title')}, {_metarank_field('name')})",
            "category": _metarank_field("category"),
            "brand": _metarank_field("brand"),
            "price": _metarank_field("price"),
            "fields": f"CAST(to_json({_METARANK_FIELDS}) AS VARCHAR)",
        },
    ),
    "metarank_rankings": PublishedFormat(
        table="events",
        source="Metarank's events, https://docs.metarank.ai/reference/event-schema",
        signs=("event", "items"),
        entries="json_extract(doc, '$.items[*]')",
        condition=f"{{event}} = 'ranking' AND {_metarank_field('query')} IS NOT NULL",
        unread=f"{{event}} = 'ranking' AND {_metarank_field('query')} IS NULL",
        unread_because="rankings without a field query, which are no searches",
        columns={
            "request_id": "{id}",
            "timestamp": "{timestamp}",
            "query": _metarank_field("query"),
            "user_id": "{user}",
            "session_id": "{session}",
            "item_id": "{entry:id}",
            "position": "place",
        },
    ),
    "metarank_interactions": PublishedFormat(
        table="events",
        source="Metarank's events, https://docs.metarank.ai/reference/event-schema",
        signs=("event", "type", "item"),
        condition="{event} = 'interaction' AND {ranking} IS NOT NULL AND {type} IN "
        "('click', 'cart', 'addtocart', 'add_to_cart', 'purchase', 'order', 'buy')",
        unread="{event} = 'interaction' AND {ranking} IS NULL",
        unread_because="interactions without a ranking",
        columns={
            "request_id": "{ranking}",
            "timestamp": "{timestamp}",
            "user_id": "{user}",
            "session_id": "{session}",
            "item_id": "{item}",
            "clicked": "{type} = 'click'",
            "carted": "{type} IN ('cart', 'addtocart', 'add_to_cart')",
            "ordered": "{type} IN ('purchase', 'order', 'buy')",
        },
    ),
    "shopify_csv": PublishedFormat(
        table="items",
        source="Shopify's product CSV, https://help.shopify.com/en/manual/products/import-export/using-csv",
        signs=("Vendor", "Option1 Name", "Variant Price"),
        condition="coalesce({Variant Price}, {Price}, {Title}) IS NOT NULL",
        columns={
            "item_id": _SHOPIFY,
            "title": f"max({{Title}}) {_OF_PRODUCT}",
            "category": f"max(coalesce({{Product Category}}, {{Product category}}, {{Type}})) {_OF_PRODUCT}",
            "brand": f"max({{Vendor}}) {_OF_PRODUCT}",
            "price": "coalesce({Variant Price}, {Price})",
            "available": f"CASE WHEN max(lower({{Status}})) {_OF_PRODUCT} IN ('draft', 'archived') "
            f"OR max(lower(coalesce({{Published}}, {{Published on online store}}))) {_OF_PRODUCT} = 'false' "
            "THEN 'false' "
            "WHEN lower(coalesce({Variant Inventory Policy}, {Continue selling when out of stock})) "
            "IN ('continue', 'true') "
            "OR coalesce({Variant Inventory Tracker}, {Inventory tracker}) IS NULL THEN 'true' "
            "ELSE coalesce({Variant Inventory Qty}, {Inventory quantity}) END",
            "description": f"max(coalesce({{Body (HTML)}}, {{Description}})) {_OF_PRODUCT}",
            "tags": f"CAST(to_json(string_split(max({{Tags}}) {_OF_PRODUCT}, ',')) AS VARCHAR)",
            "option1": "nullif(coalesce({Option1 Value}, {Option1 value}), 'Default Title')",
            "option2": "coalesce({Option2 Value}, {Option2 value})",
            "option3": "coalesce({Option3 Value}, {Option3 value})",
            "sku": "coalesce({Variant SKU}, {SKU})",
        },
    ),
    "shopify_json": PublishedFormat(
        table="items",
        source="the products of Shopify's Admin REST API and of a shop's products.json",
        signs=("variants", "handle", "vendor"),
        entries="json_extract(doc, '$.variants[*]')",
        columns={
            "item_id": "{id}",
            "title": "{title}",
            "category": "nullif({product_type}, '')",
            "brand": "{vendor}",
            "price": "{entry:price}",
            "available": "coalesce({entry:available}, CASE WHEN {status} IN ('draft', 'archived') THEN 'false' "
            "WHEN {entry:inventory_management} IS NULL OR {entry:inventory_policy} = 'continue' THEN 'true' "
            "ELSE {entry:inventory_quantity} END)",
            "description": "{body_html}",
            "tags": "CASE WHEN starts_with({tags}, '[') THEN {tags} "
            "ELSE CAST(to_json(string_split(nullif({tags}, ''), ',')) AS VARCHAR) END",
            "option1": "nullif({entry:option1}, 'Default Title')",
            "option2": "{entry:option2}",
            "option3": "{entry:option3}",
            "sku": "{entry:sku}",
            "handle": "{handle}",
        },
    ),
    "woocommerce_csv": PublishedFormat(
        table="items",
        source="WooCommerce's product CSV, https://github.com/woocommerce/woocommerce/wiki/Product-CSV-Import-Schema",
        signs=("Regular price", "In stock?", "Name"),
        columns={
            "item_id": f"CASE WHEN NOT {_IS_VARIATION} THEN {{ID}} WHEN starts_with({{Parent}}, 'id:') "
            "THEN trim(substr({Parent}, 4)) ELSE "
            f"max(CASE WHEN NOT {_IS_VARIATION} THEN {{ID}} END) OVER (PARTITION BY {_WOO_KEY}) END",
            "title": "{Name}",
            "category": "{Categories}",
            "brand": "{Brands}",
            "price": "coalesce({Sale price}, {Regular price})",
            "available": "CASE WHEN {Published} IN ('0', '-1') THEN 'false' ELSE {In stock?} END",
            "description": "{Description}",
            "short_description": "{Short description}",
            "tags": "CAST(to_json(string_split({Tags}, ',')) AS VARCHAR)",
            "attribute1": "{Attribute 1 value(s)}",
            "attribute2": "{Attribute 2 value(s)}",
            "attribute3": "{Attribute 3 value(s)}",
            "sku": "{SKU}",
        },
    ),
    "merchant_feed": PublishedFormat(
        table="items",
        source="Google Merchant Center's product data, as text with tabs, RSS or Atom, "
        "https://support.google.com/merchants/answer/7052112",
        signs=("availability", "link", "condition"),
        columns={
            "item_id": "{id}",
            "title": "{title}",
            "category": "coalesce({product_type}, {product type}, "
            "CASE WHEN NOT regexp_full_match({google_product_category}, '[0-9]+') THEN {google_product_category} END)",
            "brand": "{brand}",
            "price": "coalesce({sale_price}, {sale price}, {price})",
            "available": "{availability}",
            "description": "{description}",
            "colour": "coalesce({color}, {colour})",
            "size": "{size}",
            "gtin": "{gtin}",
            "condition": "{condition}",
            "item_group": "coalesce({item_group_id}, {item group id})",
        },
    ),
}
