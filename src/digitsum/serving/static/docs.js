SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", tryItOutEnabled: true});
